"""A silo under FedML: its message handlers, and its link to the trainer."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from fedml.core.distributed.communication.message import Message
from fedml.cross_silo.client.fedml_client_master_manager import ClientMasterManager
from fedml.cross_silo.client.fedml_trainer_dist_adapter import TrainerDistAdapter
from fedml.cross_silo.client.message_define import MyMessage
from torch import Tensor

from fedclip_plugin.errors import FederationError
from fedclip_plugin.features import SiloFeatures
from fedclip_plugin.federated.managers.handlers import ManagerMixin
from fedclip_plugin.federated.managers.round_state import RoundState
from fedclip_plugin.federated.managers.watchdog import PATIENCE, Watchdog
from fedclip_plugin.federated.messages.added_fields import (
    CHOSEN,
    COMPLETE,
    LAST,
    OTHERS,
    REPORT,
    ROUND,
    TRAIN,
    TRY,
    WHOLE,
    SiloReport,
)
from fedclip_plugin.federated.messages.error_feedback import ErrorFeedback
from fedclip_plugin.federated.messages.expected_answers import ONLINE
from fedclip_plugin.federated.messages.federation_tensors import expected_of_server
from fedclip_plugin.federated.messages.leaving import current_egress, message_leaves, update_norm
from fedclip_plugin.federated.messages.packing.packed_message import ExpectedKind, PackedMessage
from fedclip_plugin.federated.roles.choice import Chosen, try_sets
from fedclip_plugin.federated.roles.task import AnswerHistory, Answers, Histories
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.secure_sums.hello import HELLO, MEMBERS, RoundMembers
from fedclip_plugin.federated.secure_sums.member import member_of
from fedclip_plugin.federated.stop import WAITED_IN_VAIN, stop_job
from fedclip_plugin.methods import Adapter, load_parameters, parameters_of
from fedclip_plugin.methods.closed_form.adapters import ClosedForm
from fedclip_plugin.methods.closed_form.feature_sums import Statistics
from fedclip_plugin.text import told

_SERVER = 0
_SERVER_NAME = "the server"


class SiloDriver(TrainerDistAdapter):
    """Drives the trainer: evaluates each global adapter on arrival and trains on it when the silo was sampled.

    Attributes
    ----------
    report
        What is to be said about the adapter that arrived last.
    answers, personal
        How that adapter, and in the end the silo's own fine-tuned one, label the ``validation`` and ``test`` splits.
    chosen
        What all silos chose of a closed-form method, where this one solves an adapter of its own.
    whole
        Whether the adapter that arrives is not compressed, as the silo lacks the one before it.
    logged
        Whether norms of updates are asked for; then the adapter that came is kept until the update is sent.
    kind, norm, class_counts
        What was made for the server last, a kind of :data:`~fedclip_plugin.trust.outgoing.KINDS`; of an update, its
        norm where that is asked for; of sums, the images of each class.
    member
        What masks whatever leaves (``secure_sums``); None where nothing is masked.
    members
        With whom the server says that this round is to be summed.
    """

    def __init__(
        self,
        args: Any,
        device: torch.device,
        model: Adapter,
        splits: SiloFeatures,
        trainer: FedClipTrainer,
        histories: Histories | None = None,
        index: int | None = None,
    ) -> None:
        index = args.rank - 1 if index is None else index  # among all silos, those that are left out included
        counts, train, test = {index: len(splits.train)}, {index: splits}, {index: splits.test}
        super().__init__(args, device, index + 1, model, len(splits.train), counts, train, test, trainer)
        self.splits, self.silo_trainer, self._settings = splits, trainer, trainer.settings
        self._histories = histories
        self._compressor = ErrorFeedback(trainer.settings.codec)
        self._held: OrderedDict[str, Tensor] = OrderedDict()  # the global adapter that arrived last, where it is needed
        self.state = RoundState(
            trainer.folder.personal(trainer.silo) / "state",
            residual=self._compressor,
            adapter=_TrainerModel(model, remembers=not trainer.settings.averaged),
        )
        self.round = 0
        self.report: SiloReport | None = None
        self.answers: dict[str, Answers] = {}
        self.personal: dict[str, Answers] = {}
        self._others: Statistics | None = None  # sums of the other silos, where this one solves an adapter of its own
        self.chosen: Chosen | None = None
        self.whole, self.logged, self.kind = False, False, "update"
        self.norm: float | None = None
        self.class_counts: tuple[int, ...] = ()
        egress = current_egress()
        self.member = member_of(trainer, len(splits.train), 1 if egress is None else egress.fewest_silos)
        self.members: RoundMembers | None = None

    def update_dataset(self, client_index: int | None = None) -> None:
        """Take the silo's own data, whatever the server counts it as."""
        self.trainer.update_dataset(self.client_index)

    def update_model(self, model_params: Mapping[str, Tensor]) -> None:
        """Load the global adapter, or keep the silo's own where nothing is averaged, and evaluate it on own splits.

        The parameters themselves arrive at first and :attr:`whole`, otherwise they are as the server's codec has them.
        """
        first = self.report is None
        plain = first or self.whole
        arrived = OrderedDict(model_params) if plain else self._compressor.expand(model_params, self._held)
        if self._compressor.remembers or self.logged or self.member is not None:
            self._held = arrived
        own = self.silo_trainer.own_rounds
        own = self.round if own is None else own
        if self._settings.averaged or (first and own == self.round):
            super().update_model(arrived)
        privacy = self.silo_trainer.privacy
        if first:
            self.state.begin(own)
            if privacy is not None:
                privacy.begin(own)
            if self.member is not None:
                self.member.begin(own)
        began = time.perf_counter()
        self.answers = self._answer()
        self.report = SiloReport(
            silo=self.silo_trainer.silo,
            round=self.round,
            validation=self.answers["validation"].score,
            test=self.answers["test"].score,
            zero_shot={name: own.score for name, own in self.silo_trainer.zero_shot.items()} if first else {},
            evaluate_seconds=time.perf_counter() - began,
            **self._spent(),
        )
        if self._histories is not None:
            history = self._histories.setdefault(self.silo_trainer.silo, AnswerHistory())
            history.zero_shot = self.silo_trainer.zero_shot["test"]
            history.positions = self.splits.test_positions
            history.note(self.round, [self.answers["test"]])
        if self.round >= self._settings.comm_round:
            self._settle()

    def _spent(self) -> dict[str, Any]:
        """Return what a report says of the images' privacy."""
        own = self.silo_trainer.privacy
        return {} if own is None else {"epsilon": own.epsilon, "spent": not own.may_train}

    def end_after(self, rounds: int) -> None:
        """Take the adapter after that many rounds for the last one."""
        self._settings = self.silo_trainer.settings = replace(self._settings, comm_round=rounds)

    def _settle(self) -> None:
        """After the last round, fine-tune for this silo alone if asked to, and keep the silo's own adapter."""
        trainer, settings = self.silo_trainer, self._settings
        if settings.personal:
            if settings.personal_statistics:
                assert self._others is not None and self.chosen is not None, "sent with the solutions, and after"
                trainer.personalize_by_sums(self.splits, self._others, self.chosen)
            else:
                trainer.personalize(self.splits)
            self.personal = self._answer()
            assert self.report is not None, "the last adapter has been evaluated"
            self.report = replace(self.report, personal={name: own.score for name, own in self.personal.items()})
        if settings.personal or not settings.averaged:
            metrics = {name: own.score.accuracy for name, own in (self.personal or self.answers).items()}
            metrics["zero_shot_validation"] = trainer.zero_shot["validation"].score.accuracy
            saved = trainer.task.saved(self.round, trainer.model, metrics)
            trainer.folder.save_personal(trainer.silo, saved)

    def _answer(self) -> dict[str, Answers]:
        task, adapter = self.silo_trainer.task, self.silo_trainer.model
        return {
            name: task.answer(adapter, data)
            for name, data in (("validation", self.splits.validation), ("test", self.splits.test))
        }

    def train(self, round_idx: int) -> tuple[OrderedDict[str, Tensor], int]:
        """Train in the server's round (FedML counts a silo's own), note loss and time, and return what travels.

        In a round that interpolates, the number of right answers of each interpolation travels.
        """
        began, self.norm, self.class_counts = time.perf_counter(), None, ()
        if self._settings.interpolates(self.round):
            self.kind = "interpolations"
            assert self.report is not None, "the adapter has been evaluated"
            found = self.silo_trainer.try_interpolations(self.splits.validation)
            self.report = replace(self.report, train_seconds=time.perf_counter() - began)
            return found, len(self.splits.train)
        solved = isinstance(self.silo_trainer.model, ClosedForm) and self.round == 0
        self.kind = ("masked " if self.member is not None else "") + ("sums" if solved else "update")
        if solved:
            update, samples = self._sums(), len(self.splits.train)
        else:
            update, samples = super().train(self.round)
        if self.report is not None:
            seconds, silent = time.perf_counter() - began, solved or self.silo_trainer.privacy is not None
            loss = None if silent else self.silo_trainer.train_loss
            self.report = replace(self.report, train_loss=loss, train_seconds=seconds, **self._spent())
        payload, seen = self._compressor.compress(update, self._held)
        if self.logged and not solved:
            self.norm = update_norm(seen, self._held)
        if self.member is not None and not solved:
            bound = self._settings.secure_sums_bound
            payload = self.member.mask_update(self.round + 1, self.members, self._held, update, bound)
        return payload, samples

    def _sums(self) -> OrderedDict[str, Tensor]:
        """Return what travels of the sums over the silo's images, and note how many are of each class."""
        found = self.silo_trainer.sums(self.splits.train)
        self.class_counts = tuple(found.counts.round().long().tolist())
        if self.member is None:
            return found.to_wire()
        return self.member.mask_sums(self.round + 1, self.members, self._held, found.parts())

    def try_solutions(self, tensors: Mapping[str, Tensor]) -> tuple[OrderedDict[str, Tensor], int]:
        """Return how solutions of a closed-form method do on the validation split, and the number of images."""
        began, trainer = time.perf_counter(), self.silo_trainer
        self.kind, self.norm, self.class_counts = "trials", None, ()
        assert isinstance(trainer.model, ClosedForm) and self.report is not None, "sent after the first adapter"
        others = {name.removeprefix(OTHERS): tensor for name, tensor in tensors.items() if name.startswith(OTHERS)}
        self._others = Statistics.from_wire(others) if others else None
        found = try_sets(type(trainer.model), tensors, self.splits.validation, trainer.task.text)
        seconds = self.report.train_seconds + time.perf_counter() - began
        self.report = replace(self.report, zero_shot={}, train_seconds=seconds)
        return found, len(self.splits.train)


@dataclass(frozen=True)
class _TrainerModel:
    """The adapter of a silo as something to remember: where nothing is averaged, the server does not have it."""

    model: Adapter
    remembers: bool

    def state(self) -> Mapping[str, Tensor]:
        """Return the parameters."""
        return parameters_of(self.model)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these parameters."""
        load_parameters(self.model, tensors)


class FedClipSilo(ManagerMixin, ClientMasterManager):
    """A silo's message handlers over MPI."""

    num_rounds: int

    def __init__(self, args: Any, driver: SiloDriver) -> None:
        self._driver, self.egress = driver, current_egress()
        driver.logged = self.egress is not None
        self.settings = driver.silo_trainer.settings
        self.lenient = self.settings.round_grace is not None
        own = f"silo {told(driver.silo_trainer.silo)} (rank {args.rank})"
        self.names = {_SERVER: _SERVER_NAME, args.rank: own}
        self._watchdog = Watchdog(self._complain, args.comm)
        self._patience = (self.settings.round_timeout + (self.settings.round_grace or 0.0)) * PATIENCE
        if self.lenient:
            self._patience *= 2  # a round may wait for a silo to come back, and then for it to train
        self._watchdog.expect([_SERVER_NAME], self._patience)
        super().__init__(args, driver, args.comm, args.rank, args.worker_num, args.backend)

    def where(self) -> str:
        """Return the silo's name, rank and round."""
        return f"{self.names[self.rank]}, round {self._driver.round + 1}"

    def expected(self) -> dict[str, ExpectedKind]:
        """Return what the server sends."""
        return expected_of_server(self._driver.silo_trainer.model, self.settings, self.args.client_num_in_total)

    def look(self) -> None:
        """Go on waiting: the server says when a round begins."""

    def leaves(self, message: Message, packed: PackedMessage) -> None:
        """Show the silo's policy and log what is about to be sent."""
        if self.egress is None:
            return
        driver, update = self._driver, message.get_type() == MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER
        if update:
            spent = driver.report.epsilon if driver.report else None
            own = driver.silo_trainer.privacy
            delta, account = (None, None) if own is None else (own.settings.delta, own.account)
            number, counts = driver.round + 1, driver.class_counts
            message_leaves(self.egress, packed, driver.kind, number, driver.norm, spent, delta, account, counts)
        else:
            kind = "report" if message.get_type() == MyMessage.MSG_TYPE_C2S_SEND_STATS_TO_SERVER else "status"
            behind = None if driver.report is None else driver.report.round
            message_leaves(self.egress, packed, kind, behind)

    def handle_message_init(self, msg_params: Message) -> None:
        """Receive the first adapter."""
        self._receive(msg_params, super().handle_message_init)

    def handle_message_receive_model_from_server(self, msg_params: Message) -> None:
        """Receive the adapter of a later round, or the last one."""
        self._receive(msg_params, super().handle_message_receive_model_from_server)

    def _receive(self, message: Message, train: Callable[[Message], None]) -> None:
        number, first = message.get(ROUND), message.get_type() == MyMessage.MSG_TYPE_S2C_INIT_CONFIG
        due = self._driver.report is None
        least = self._driver.round + (not due and not message.get(TRY))  # else a round could be trained twice
        if first != due or not least <= number <= self.num_rounds:
            sent = f"{'the first' if first else 'a later'} adapter, of round {told(number)}"
            rule = f"must be {'the first' if due else 'a later'} one, of a round from {least} to {self.num_rounds}"
            raise FederationError(f"{_SERVER_NAME} sent {sent}, out of turn: {rule}")
        self._driver.round = self.round_idx = number
        if message.get(LAST):
            self.num_rounds = number
            self._driver.end_after(number)
        self._driver.whole = bool(message.get(WHOLE))
        chosen = message.get(CHOSEN)
        self._driver.chosen = None if chosen is None else Chosen(*chosen)
        self._driver.members = message.get(MEMBERS)
        if not first:  # what there is at first may be of a job that was ended
            self._driver.state.drop_before(message.get(COMPLETE))
        if message.get(TRY):
            solutions = message.get(MyMessage.MSG_ARG_KEY_MODEL_PARAMS)
            self.send_model_to_server(_SERVER, *self._driver.try_solutions(solutions))
        elif message.get(TRAIN) or number >= self.num_rounds:
            train(message)
        else:
            self._driver.update_dataset()
            self._driver.update_model(message.get(MyMessage.MSG_ARG_KEY_MODEL_PARAMS))
            self.send_message(Message(MyMessage.MSG_TYPE_C2S_SEND_STATS_TO_SERVER, self.client_real_id, _SERVER))

    def send_message(self, message: Message) -> None:
        """Send a message, with the silo's report when it has one, and save what an update leaves behind."""
        update = message.get_type() == MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER
        if update:
            message.add_params(ROUND, self._driver.round)
        if self._driver.member is not None and message.get(MyMessage.MSG_ARG_KEY_CLIENT_STATUS) == ONLINE:
            message.add_params(HELLO, self._driver.member.hello)
        message.add_params(REPORT, self._driver.report)
        super().send_message(message)
        self._wait()
        if update:
            self._driver.state.save(self._driver.round + 1)

    def finish(self) -> None:
        """Leave the federation, when the slowest silo is ready and the server has noticed if another is not."""
        self._patience *= 2
        self._wait()
        super().finish()
        self._watchdog.close()

    def _heard(self, rank: int) -> None:
        """Give the server its time anew; where this silo may be late, what comes next is its own time."""
        if self.lenient:
            self._watchdog.excuse([_SERVER_NAME])
        else:
            self._wait()

    def _wait(self) -> None:
        """Wait for the server from now on."""
        self._watchdog.excuse([_SERVER_NAME])
        self._watchdog.expect([_SERVER_NAME], self._patience)

    def _complain(self, late: list[str]) -> None:
        reason = f"no word from {late[0]} for {self._patience:.0f} s (round_timeout)"
        stop_job(self.args.comm, self.where(), reason, WAITED_IN_VAIN)
