"""What a rank has in place of MPI's communicator where all ranks are in one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from fedclip_plugin.errors import FederationError

if TYPE_CHECKING:
    from fedclip_plugin.federated.messages.local_transport import LocalNetwork


@dataclass(frozen=True)
class LocalComm:
    """A rank of one process; nobody is waited for, since one rank works after the other."""

    rank: int
    size: int
    network: LocalNetwork

    def Get_rank(self) -> int:
        """Return the rank, as MPI's communicator does."""
        return self.rank

    def Get_size(self) -> int:
        """Return the number of ranks, as MPI's communicator does."""
        return self.size

    def fail(self, who: str, error: BaseException | str) -> NoReturn:
        """End the federation with an error: the one that was raised, or one that says what is wrong with whom."""
        if isinstance(error, BaseException):
            raise error
        raise FederationError(f"{who}: {error}")
