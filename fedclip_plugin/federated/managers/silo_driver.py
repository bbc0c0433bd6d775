"""A silo's link to the trainer: it evaluates what arrives, trains on it, and makes what is sent."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from fedml.cross_silo.client.fedml_trainer_dist_adapter import TrainerDistAdapter
from torch import Tensor

from fedclip_plugin.features import SiloFeatures
from fedclip_plugin.federated.managers.round_state import RoundState
from fedclip_plugin.federated.messages.added_fields import OTHERS, SiloReport
from fedclip_plugin.federated.messages.error_feedback import ErrorFeedback
from fedclip_plugin.federated.messages.leaving import current_egress, update_norm
from fedclip_plugin.federated.roles.choice import Chosen, try_sets
from fedclip_plugin.federated.roles.task import AnswerHistory, Answers, Histories
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.secure_sums.hello import RoundMembers
from fedclip_plugin.federated.secure_sums.member import member_of
from fedclip_plugin.methods import Adapter, load_parameters, parameters_of
from fedclip_plugin.methods.closed_form.adapters import ClosedForm
from fedclip_plugin.methods.closed_form.feature_sums import Statistics
from fedclip_plugin.trust.outgoing import Outgoing


class SiloDriver(TrainerDistAdapter):
    """Drives the trainer: evaluates each global adapter on arrival and trains on it when the silo was sampled.

    Attributes
    ----------
    report
        What is to be said about the adapter that arrived last.
    answers, personal
        How that adapter, and in the end the silo's own fine-tuned one, label the ``validation`` and ``test`` splits.
    outgoing
        What policy and log are told of what was made for the server last, without its bytes.
    member
        What masks whatever leaves (``secure_sums``); None where nothing is masked.
    round
        Rounds behind the adapter that arrived last.
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
        self._chosen: Chosen | None = None
        self._whole = False
        self._members: RoundMembers | None = None
        self.outgoing = Outgoing("update")
        egress = current_egress()
        self._logs_norms = egress is not None
        self.member = member_of(trainer, len(splits.train), 1 if egress is None else egress.min_silos)

    def announce(self, round_: int, whole: bool, chosen: Chosen | None, members: RoundMembers | None) -> None:
        """Take what the server says beside the adapter that arrives next.

        Parameters
        ----------
        round_
            Rounds behind it.
        whole
            Whether it travels as it is, whatever the codec, as the silo lacks the one before it.
        chosen
            What all silos chose of a closed-form method, where each solves an adapter of its own.
        members
            With whom the server sums what this round makes; None where it does not.
        """
        self.round, self._whole, self._chosen, self._members = round_, whole, chosen, members

    def update_dataset(self, client_index: int | None = None) -> None:
        """Take the silo's own data, whatever the server counts it as."""
        self.trainer.update_dataset(self.client_index)

    def update_model(self, model_params: Mapping[str, Tensor]) -> None:
        """Load the global adapter, or keep the silo's own where nothing is averaged, and evaluate it on own splits.

        The parameters themselves arrive at first, and where the server has said so; else as its codec has them.
        """
        first = self.report is None
        plain = first or self._whole
        arrived = OrderedDict(model_params) if plain else self._compressor.expand(model_params, self._held)
        if self._compressor.remembers or self._logs_norms or self.member is not None:
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
                assert self._others is not None and self._chosen is not None, "sent with the solutions, and after"
                trainer.personalize_by_sums(self.splits, self._others, self._chosen)
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
        if self._settings.interpolates(self.round):
            return self._interpolations()
        solved = isinstance(self.silo_trainer.model, ClosedForm) and self.round == 0
        return self._sums() if solved else self._update()

    def _update(self) -> tuple[OrderedDict[str, Tensor], int]:
        """Train, and return what travels of the parameters."""
        began, private = time.perf_counter(), self.silo_trainer.privacy is not None
        update, samples = super().train(self.round)
        self._note_training(began, None if private else self.silo_trainer.train_loss)
        payload, seen = self._compressor.compress(update, self._held)
        norm = update_norm(seen, self._held) if self._logs_norms else None
        if self.member is not None:
            bound = self._settings.secure_sums_bound
            payload = self.member.mask_update(self.round + 1, self._members, self._held, update, bound)
        self.outgoing = self._described("masked update" if self.member is not None else "update", norm=norm)
        return payload, samples

    def _sums(self) -> tuple[OrderedDict[str, Tensor], int]:
        """Return what travels of the sums over the silo's images, of a closed-form method."""
        began, found = time.perf_counter(), self.silo_trainer.sums(self.splits.train)
        if self.member is None:
            payload = found.to_wire()
        else:
            payload = self.member.mask_sums(self.round + 1, self._members, self._held, found.parts())
        self._note_training(began, None)
        counts = tuple(found.counts.round().long().tolist())
        self.outgoing = self._described("masked sums" if self.member is not None else "sums", class_counts=counts)
        return payload, len(self.splits.train)

    def _interpolations(self) -> tuple[OrderedDict[str, Tensor], int]:
        """Return the number of right answers of each interpolation (``wise``)."""
        began = time.perf_counter()
        assert self.report is not None, "the adapter has been evaluated"
        found = self.silo_trainer.try_interpolations(self.splits.validation)
        self.report = replace(self.report, train_seconds=time.perf_counter() - began)
        self.outgoing = self._described("interpolations")
        return found, len(self.splits.train)

    def _note_training(self, began: float, loss: float | None) -> None:
        """Note in the report the loss and the time of a training, and what it has spent of the images' privacy."""
        assert self.report is not None, "the adapter has been evaluated"
        seconds = time.perf_counter() - began
        self.report = replace(self.report, train_loss=loss, train_seconds=seconds, **self._spent())

    def _described(self, kind: str, norm: float | None = None, class_counts: Sequence[int] = ()) -> Outgoing:
        """Return what policy and log are told of what was made in this round."""
        assert self.report is not None, "the adapter has been evaluated"
        own = self.silo_trainer.privacy
        return Outgoing(
            kind,
            round=self.round + 1,
            norm=norm,
            epsilon=self.report.epsilon,
            delta=None if own is None else own.settings.delta,
            account=None if own is None else own.account,
            class_counts=class_counts,
        )

    def try_solutions(self, tensors: Mapping[str, Tensor]) -> tuple[OrderedDict[str, Tensor], int]:
        """Return how solutions of a closed-form method do on the validation split, and the number of images."""
        began, trainer = time.perf_counter(), self.silo_trainer
        assert isinstance(trainer.model, ClosedForm) and self.report is not None, "sent after the first adapter"
        others = {name.removeprefix(OTHERS): tensor for name, tensor in tensors.items() if name.startswith(OTHERS)}
        self._others = Statistics.from_wire(others) if others else None
        found = try_sets(type(trainer.model), tensors, self.splits.validation, trainer.task.text)
        seconds = self.report.train_seconds + time.perf_counter() - began
        self.report = replace(self.report, zero_shot={}, train_seconds=seconds)
        self.outgoing = self._described("trials")
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
