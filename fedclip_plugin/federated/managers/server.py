"""The server under FedML: its message handlers."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from fedml.core.distributed.communication.message import Message
from fedml.cross_silo.server.fedml_server_manager import FedMLServerManager
from fedml.cross_silo.server.message_define import MyMessage
from torch import Tensor

from fedclip_plugin.federated.managers.averaging_driver import AveragingDriver
from fedclip_plugin.federated.managers.handlers import ManagerMixin
from fedclip_plugin.federated.managers.round_recorder import RoundRecorder, ServerReport
from fedclip_plugin.federated.managers.round_state import RoundState
from fedclip_plugin.federated.managers.watchdog import Watchdog
from fedclip_plugin.federated.messages.added_fields import (
    CHOSEN,
    COMPLETE,
    LAST,
    ROUND,
    TRAIN,
    TRY,
    WHOLE,
    SiloReport,
)
from fedclip_plugin.federated.messages.expected_answers import ONLINE, ExpectedAnswers
from fedclip_plugin.federated.messages.federation_tensors import expected_of_silos
from fedclip_plugin.federated.messages.packing.packed_message import ExpectedKind
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.secure_sums.collector import HelloCollector
from fedclip_plugin.federated.secure_sums.hello import HELLO, MEMBERS
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.recipe.rules.secure_sums import FEWEST_IN_A_SUM
from fedclip_plugin.text import counted, told

logger = logging.getLogger(__name__)

_MODEL_MESSAGES = (MyMessage.MSG_TYPE_S2C_INIT_CONFIG, MyMessage.MSG_TYPE_S2C_SYNC_MODEL_TO_CLIENT)


class FedClipServer(ManagerMixin, FedMLServerManager):
    """The server's message handlers over MPI; the recorder tells which round is to begin.

    A silo goes by its place among those that are there, which is its rank less one, or by its name.

    Attributes
    ----------
    missing
        Ranks of the silos that were not there at the end; none unless the recipe has a ``round_grace``.
    """

    def __init__(self, args: Any, averager: AveragingDriver, recorder: RoundRecorder) -> None:
        self._averager, self._recorder = averager, recorder
        self._quorum, self.lenient = averager.quorum, averager.quorum.lenient
        self._outdated: set[int] = set()  # places of silos that were not sent the newest adapter
        self.missing: tuple[int, ...] = ()
        self._planned = averager.aggregator.settings.comm_round
        self._aggregator: FedClipAggregator = averager.aggregator
        self._state = RoundState(
            self._aggregator.folder.state, residual=self._aggregator.compressor, optimizer=self._aggregator.optimizer
        )
        self.names = {0: "server (rank 0)"} | {
            rank: f"silo {told(name)} (rank {rank})" for rank, name in enumerate(self._aggregator.silos, 1)
        }
        self._expected = ExpectedAnswers(
            self.names, self._aggregator.silos, self._aggregator.splits, self.settings.comm_round
        )
        trained = [sizes["train"] for sizes in self._aggregator.splits]
        self._hellos = HelloCollector(self._aggregator.silos, trained) if self.settings.secure_sums else None
        self._watchdog = Watchdog(self._complain, args.comm)
        for _ in range(self._expected.ONLINE_MESSAGES):
            self._watchdog.expect(self._aggregator.silos, self.settings.round_timeout)
        self._sent_at = time.perf_counter()
        self._sent_before = self._received_before = self._bytes_down = 0
        super().__init__(args, averager, args.comm, args.rank, args.worker_num, args.backend)
        self.args.round_idx = max(0, recorder.last)
        averager.spent |= {place for place, name in enumerate(self._aggregator.silos) if name in recorder.spent}
        averager.sample(self.args.round_idx)
        if averager.ended:
            stop_job(args.comm, self.where(), self._no_more(max(0, recorder.last)))

    @property
    def settings(self) -> TrainingSettings:
        """How the federation trains."""
        return self._aggregator.settings

    def where(self) -> str:
        """Return the server's round."""
        return f"{self.names[0]}, round {self.args.round_idx + 1}"

    def _no_more(self, last: int) -> str:
        """Take the last complete round for the end of a run that too few silos can go on with, and say so."""
        folder, able = self._aggregator.folder, len(self._aggregator.silos) - len(self._averager.spent)
        needs = f"a round needs {self.settings.fewest_silos}"
        few = f"{counted(able, 'silo')} may train on (dp_target_epsilon), and {needs}"
        possible = able >= (FEWEST_IN_A_SUM if self.settings.secure_sums else 1)
        remedy = "lower fedclip_args.min_silos, or " if possible else ""
        if not last:
            return f"{few}: {remedy}begin a new run with another --run"
        folder.mark_final(last)
        return f"{few}: {remedy}keep {folder.path} as it is; adapters/final is of round {last}, the last complete one"

    def handle(self, kind: Any, message: Message) -> None:
        """Take in a silo's report, if its message is the one that it owes, and give it to its handler."""
        own = message.get_sender_id() == self.rank  # FedML's word that the connection is ready
        report = None if own else self._expected.take(message)
        place = message.get_sender_id() - 1
        if report is not None:
            if report.spent:
                self._averager.spent.add(place)
            if place in self._quorum.behind:
                self._take_late(place, report)
                return
            self._recorder.report(report)
            if report.round == self.args.round_idx:  # who only evaluates may be a round behind the others
                self._quorum.answered(place, self._averager.can_use(place, message) if self.lenient else True)
            if self.lenient and self._quorum.reached:
                self._wait_no_longer(self._quorum.waiting())
        if self._hellos is not None and message.get(MyMessage.MSG_ARG_KEY_CLIENT_STATUS) == ONLINE and not own:
            self._hellos.take(message.get_sender_id(), message.get(HELLO))
        super().handle(kind, message)
        self.look()
        if self._quorum.stuck:
            self._await_behind()

    def look(self) -> None:
        """Close the round if it is over: by its last answer when that is no update, or by the time that has passed."""
        if not self.lenient or not self._quorum.is_over():
            return
        if self._averager.short:
            self._end_short()
        answer = self._averager.an_answer()
        if answer is not None:
            self._close_round(*answer)
        elif self.args.round_idx == self.settings.comm_round:
            self._leave()

    def _close_round(self, place: int, update: Any, images: float) -> None:
        """Close a round that is over, by giving FedML an update once more that it has already.

        FedML closes a round nowhere else than in :meth:`handle_message_receive_model_from_client`, when it has taken an
        update and finds that none is missing. To take the same one twice changes nothing.
        """
        message = Message(MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER, place + 1, self.rank)
        message.add_params(MyMessage.MSG_ARG_KEY_MODEL_PARAMS, update)
        message.add_params(MyMessage.MSG_ARG_KEY_NUM_SAMPLES, images)
        self.handle_message_receive_model_from_client(message)

    def _end_short(self) -> None:
        """End the job where those that the round waited for are back, and may train no more."""
        last = self.args.round_idx
        text = self._no_more(last)
        self._recorder.excuse(last, self._recorder.silent(last))
        stop_job(self.args.comm, self.where(), text)

    def _take_late(self, place: int, report: SiloReport) -> None:
        """Leave out what a silo answers to the adapter of a round that is over, and let it take part again.

        That is in the next round; in this one where it lacks answers, or to take the last adapter.
        """
        over, name = self.args.round_idx == self.settings.comm_round, told(report.silo)
        drawn = place in self._averager.drawn and not self._quorum.reached
        needed = self._averager.short or self._quorum.stuck or drawn
        trains = place not in self._averager.spent and self._aggregator.solving(self.args.round_idx) is None
        joins = over or (needed and trains)
        self._quorum.back(place, joins)
        self._recorder.late(report, min(self.args.round_idx + 1, self.settings.comm_round))
        when = "after the last round" if over else f"in round {self.args.round_idx + 1}"
        logger.warning("%s answers round %d %s: too late, its update is left out", name, report.round + 1, when)
        if not joins:
            return
        if not over:
            self._averager.let_join(place)
            if not self._averager.short:
                self._wait_no_longer(self._quorum.behind)
        message = Message(MyMessage.MSG_TYPE_S2C_SYNC_MODEL_TO_CLIENT, self.get_sender_id(), place + 1)
        message.add_params(MyMessage.MSG_ARG_KEY_CLIENT_INDEX, str(place))
        message.add_params(ROUND, self.args.round_idx)
        self._send_beside(message)

    def _wait_no_longer(self, places: Iterable[int]) -> None:
        """Let the silos of these places be silent: the round can be closed without them."""
        self._watchdog.excuse(self._aggregator.silos[place] for place in places)

    def _await_behind(self) -> None:
        """Wait for the silos that are behind, whom the round needs, up to ``round_timeout``."""
        behind = [self._aggregator.silos[place] for place in sorted(self._quorum.behind)]
        self._watchdog.excuse(behind)
        self._watchdog.expect(behind, self.settings.round_timeout)

    def expected(self) -> dict[str, ExpectedKind]:
        """Return what silos send."""
        return expected_of_silos(self._aggregator.model, self.settings, len(self._aggregator.silos))

    def register_message_receive_handlers(self) -> None:
        """Register FedML's handlers, and one for the reports of silos that did not train: they are taken in already."""
        super().register_message_receive_handlers()
        self.register_message_receive_handler(MyMessage.MSG_TYPE_C2S_SEND_STATS_TO_SERVER, lambda message: None)

    def process_online_status(self, client_status: str, msg_params: Message) -> None:
        """Send the first adapter once all silos are there; FedML sends it again for every late sign of life."""
        if not self.is_initialized:
            super().process_online_status(client_status, msg_params)

    def send_init_msg(self) -> None:
        """Send the first adapter, which travels as it is whatever the codec, and begin the first round."""
        self._state.begin(self.args.round_idx)
        super().send_init_msg()
        self._begin_round()

    def send_message(self, message: Message) -> None:
        """Send a message; one that carries an adapter goes to silos that are not behind, and says more beside it."""
        if message.get_type() not in _MODEL_MESSAGES:
            super().send_message(message)
        elif message.get_receiver_id() - 1 in self._quorum.behind:
            self._leave_behind(message.get_receiver_id() - 1, self._begins(message))
        else:
            self._announce(message, self._begins(message))
            super().send_message(message)

    def _begins(self, message: Message) -> int:
        """Return the index of the round that begins with a message's adapter."""
        begins: int | None = message.get(ROUND)
        if begins is None:  # FedML counts on afterwards
            begins = int(self.args.round_idx) + (message.get_type() == MyMessage.MSG_TYPE_S2C_SYNC_MODEL_TO_CLIENT)
        return begins

    def _leave_behind(self, place: int, begins: int) -> None:
        """Send a silo that is behind no adapter; the end of the run waits a while for it too."""
        self._outdated.add(place)
        if begins == self.settings.comm_round:
            self._quorum.sent(place, counts=False)

    def _announce(self, message: Message, begins: int) -> None:
        """Say beside an adapter which round begins and whether the silo trains in it; it owes an answer from now on."""
        rank = message.get_receiver_id()
        place = rank - 1
        train = place in self._averager.sampled
        if place in self._outdated:
            self._outdated.discard(place)
            message.add_params(MyMessage.MSG_ARG_KEY_MODEL_PARAMS, self._averager.get_global_model_params())
            message.add_params(WHOLE, True)
        message.add_params(ROUND, begins)
        message.add_params(TRAIN, train)
        message.add_params(COMPLETE, self._recorder.last)
        if self._hellos is not None and train and not message.get(TRY) and self.settings.is_summed(begins):
            message.add_params(MEMBERS, self._hellos.members(begins, self._averager.sampled))
        if begins == self.settings.comm_round < self._planned:
            message.add_params(LAST, True)
            self._expected.end_after(begins)
        solved = self._aggregator.closed_form
        if self.settings.personal_statistics and solved is not None and solved.chosen is not None:
            message.add_params(CHOSEN, tuple(solved.chosen))
        self._expected.adapter_sent(rank, begins, train)
        self._quorum.sent(place, train or begins == self.settings.comm_round)
        self._watchdog.expect([self._aggregator.silos[place]], self.settings.round_timeout)

    def handle_message_receive_model_from_client(self, msg_params: Message) -> None:
        """Take a silo's update; close the round when it was the last one."""
        number = self.args.round_idx
        super().handle_message_receive_model_from_client(msg_params)
        for place in list(self._averager.to_try):
            self._send_to_try(place, self._averager.to_try.pop(place))
        if self.args.round_idx == number:
            return
        self.round_num = self.settings.comm_round
        if self.lenient:
            self._wait_no_longer(self._quorum.behind)
        if self._averager.short:
            self._await_behind()
        began, down = self._sent_at, self._bytes_down
        up = self.com_manager.bytes_received - self._received_before
        self._begin_round()
        self._note_round(self.args.round_idx, up, down, self._sent_at - began)

    def _send_to_try(self, place: int, solutions: OrderedDict[str, Tensor]) -> None:
        """Ask a silo, in the round that goes on, how solutions do on its validation images."""
        message = Message(MyMessage.MSG_TYPE_S2C_SYNC_MODEL_TO_CLIENT, self.get_sender_id(), place + 1)
        message.add_params(MyMessage.MSG_ARG_KEY_MODEL_PARAMS, solutions)
        message.add_params(MyMessage.MSG_ARG_KEY_CLIENT_INDEX, str(place))
        message.add_params(ROUND, self.args.round_idx)
        message.add_params(TRY, True)
        self._send_beside(message)

    def _send_beside(self, message: Message) -> None:
        """Send a message in a round that goes on, and count it to that round."""
        before = self.com_manager.bytes_sent
        self.send_message(message)
        sent = self.com_manager.bytes_sent - before
        self._bytes_down, self._sent_before = self._bytes_down + sent, self._sent_before + sent

    def process_finished_status(self, client_status: str, msg_params: Message) -> None:
        """End when all silos have said goodbye; FedML would sleep 5 s first."""
        self.client_finished_mapping[str(msg_params.get_sender_id())] = True
        if len(self.client_finished_mapping) == self._averager.client_num:
            self._leave()

    def _leave(self) -> None:
        """End; without the silos that have not come to the end in time, if there are any."""
        here = {int(rank) for rank in self.client_finished_mapping}
        self.missing = tuple(rank for rank in range(1, self._averager.client_num + 1) if rank not in here)
        self._quorum.close()
        self._recorder.excuse(self.settings.comm_round, [self._aggregator.silos[rank - 1] for rank in self.missing])
        self._watchdog.expect(["a silo that should leave with the others"], self.settings.round_timeout)
        self.com_manager.give_up(self.missing)
        self.finish()
        self._watchdog.close()

    def _heard(self, rank: int) -> None:
        """Wait no longer for what has arrived from a silo, though it may be handled much later."""
        self._watchdog.heard(self._aggregator.silos[rank - 1])

    def _note_round(self, number: int, up: int, down: int, wall: float) -> None:
        """Save the new adapter while the silos already work on it, and tell the recorder."""
        if number < self.round_num:
            self._aggregator.save(number)
        self._state.save(number)
        solved = self._aggregator.solving(number - 1)
        report = ServerReport(
            answered=self._aggregator.answered,
            dropped=self._aggregator.dropped,
            outliers=self._aggregator.outliers,
            bytes_up=up,
            bytes_down=down,
            seconds=self._averager.seconds,
            wall_seconds=wall,
            target=self._aggregator.target,
            wise=self._aggregator.share,
            solved=None if solved is None else solved.chosen,
            delta=None if self.settings.privacy is None else self.settings.privacy.delta,
            late=tuple(self._aggregator.silos[place] for place in sorted(self._averager.late)),
        )
        self._recorder.excuse(number - 1, report.late)
        self._recorder.server(number, report)
        self._state.drop_before(self._recorder.last)

    def _begin_round(self) -> None:
        """Count time and bytes anew: the sampled silos train, the others evaluate, in the end all say goodbye."""
        self._sent_at = time.perf_counter()
        self._bytes_down = self.com_manager.bytes_sent - self._sent_before
        self._sent_before, self._received_before = self.com_manager.bytes_sent, self.com_manager.bytes_received

    def begin(self) -> None:
        """Note what is known before any training, as round 0."""
        self._aggregator.save(0)
        self._averager.note(0)
        zero_shot = self._aggregator.zero_shot.score if self._aggregator.zero_shot else None
        self._recorder.server(0, ServerReport(target=self._aggregator.target, zero_shot=zero_shot))

    def _complain(self, late: list[str]) -> None:
        limit = f"{self.settings.round_timeout:.0f} s (fedclip_args.round_timeout)"
        stop_job(
            self.args.comm,
            self.where(),
            f"no answer from {', '.join(map(told, late))} within {limit}; the last complete round is in "
            f"{self._aggregator.folder.path}: look at those silos and run again with --resume",
            silent=[rank for rank, name in enumerate(self._aggregator.silos, 1) if name in late],
        )
