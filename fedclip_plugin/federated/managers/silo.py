"""A silo under FedML: its message handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedml.core.distributed.communication.message import Message
from fedml.cross_silo.client.fedml_client_master_manager import ClientMasterManager
from fedml.cross_silo.client.message_define import MyMessage

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.managers.handlers import ManagerMixin
from fedclip_plugin.federated.managers.silo_driver import SiloDriver
from fedclip_plugin.federated.managers.watchdog import PATIENCE, Watchdog
from fedclip_plugin.federated.messages.added_fields import (
    CHOSEN,
    COMPLETE,
    LAST,
    REPORT,
    ROUND,
    TRAIN,
    TRY,
    WHOLE,
)
from fedclip_plugin.federated.messages.expected_answers import ONLINE
from fedclip_plugin.federated.messages.federation_tensors import expected_of_server
from fedclip_plugin.federated.messages.leaving import current_egress, message_leaves
from fedclip_plugin.federated.messages.packing.packed_message import ExpectedKind, PackedMessage
from fedclip_plugin.federated.roles.choice import Chosen
from fedclip_plugin.federated.secure_sums.hello import HELLO, MEMBERS
from fedclip_plugin.federated.stop import WAITED_IN_VAIN, stop_job
from fedclip_plugin.text import told
from fedclip_plugin.trust.outgoing import Outgoing

_SERVER = 0
_SERVER_NAME = "the server"


class FedClipSilo(ManagerMixin, ClientMasterManager):
    """A silo's message handlers over MPI."""

    num_rounds: int

    def __init__(self, args: Any, driver: SiloDriver) -> None:
        self._driver, self.egress = driver, current_egress()
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
        if message.get_type() == MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER:
            described = self._driver.outgoing
        else:
            kind = "report" if message.get_type() == MyMessage.MSG_TYPE_C2S_SEND_STATS_TO_SERVER else "status"
            report = self._driver.report
            described = Outgoing(kind, round=None if report is None else report.round)
        message_leaves(self.egress, packed, described)

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
        self.round_idx, chosen = number, message.get(CHOSEN)
        solved = None if chosen is None else Chosen(*chosen)
        self._driver.announce(number, bool(message.get(WHOLE)), solved, message.get(MEMBERS))
        if message.get(LAST):
            self.num_rounds = number
            self._driver.end_after(number)
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
