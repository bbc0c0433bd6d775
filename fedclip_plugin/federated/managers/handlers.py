"""What our server and client managers have in common: an exception ends the job, and MPI stays open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.messages.local_transport import unseen
from fedclip_plugin.federated.messages.packing.packed_message import ExpectedKind, PackedMessage
from fedclip_plugin.federated.messages.transport import open_transport
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.text import told


class ManagerMixin(ABC):
    """Of FedML's managers: an exception in a handler ends the job instead of leaving it waiting."""

    args: Any
    comm: Any
    rank: int
    size: int
    names: Mapping[int, str]
    """Rank to name, of this rank and of those that send to it."""
    lenient: bool
    """Whether rounds go on without silos that are late (``round_grace``)."""
    com_manager: Any
    message_handler_dict: dict[Any, Callable[[Any], None]]

    @abstractmethod
    def where(self) -> str:
        """Return who this is and which round it is in."""

    @abstractmethod
    def expected(self) -> Mapping[str, ExpectedKind]:
        """Return the kinds of messages that come here, and what each must have."""

    @abstractmethod
    def _heard(self, rank: int) -> None:
        """Take note that something has arrived from a rank."""

    def leaves(self, message: Any, packed: PackedMessage) -> None:
        """See a message that is about to be sent; when this raises, it is not. The server has nothing to look at."""
        unseen(message, packed)

    @abstractmethod
    def look(self) -> None:
        """Do what the time asks for; called several times a second between messages, where rounds have a grace."""

    def _init_manager(self) -> None:
        self.com_manager = open_transport(
            self.comm,
            self.rank,
            self.size,
            self.names,
            self.expected(),
            self._heard,
            self.leaves,
            self._look if self.lenient else None,
        )
        self.com_manager.add_observer(self)

    def receive_message(self, msg_type: Any, msg_params: Any) -> None:
        """Run the handler of one message; FedML's own would turn a KeyError into a misleading message and wait on."""
        try:
            self.handle(msg_type, msg_params)
        except BaseException as error:
            stop_job(self.args.comm, self.where(), error)

    def _look(self) -> None:
        try:
            self.look()
        except BaseException as error:
            stop_job(self.args.comm, self.where(), error)

    def handle(self, kind: Any, message: Any) -> None:
        """Give a message to the handler of its type, or raise a FederationError when there is none."""
        if kind not in self.message_handler_dict:
            sender = self.names[message.get_sender_id()]
            raise FederationError(f"{sender} sent a message of type {told(kind)}, which nobody here takes")
        self.message_handler_dict[kind](message)

    def finish(self) -> None:
        """Leave the federation: its transport closes and MPI stays open, for another one may follow."""
        self.com_manager.stop_receive_message()
