"""The ranks of a simulation: a server and its workers over MPI, or both in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.managers.watchdog import together
from fedclip_plugin.federated.messages.exchange import Exchange, Layouts
from fedclip_plugin.federated.simulation.expected_turns import ExpectedTurns
from fedclip_plugin.federated.simulation.turns import Turn, WorkerAnswer
from fedclip_plugin.federated.simulation.worker import Worker
from fedclip_plugin.federated.startup.rank_status import StatusExchange, exchange_here, exchange_status
from fedclip_plugin.federated.startup.start_messages import GoOn


@dataclass(frozen=True)
class WorkerGroup:
    """One rank, among those of its simulation.

    Attributes
    ----------
    comm
        MPI's communicator; None where this process is the server and the one worker.
    rank, workers
        This rank, 0 being the server, and how many workers there are.
    first_here
        Whether this is the first rank on its host: it encodes for all of them.
    one_host
        Whether all ranks are on one host.
    limit
        Seconds that a rank that says nothing is waited for, at the start.
    """

    comm: Any
    rank: int
    workers: int
    first_here: bool
    one_host: bool
    limit: float

    @classmethod
    def of(cls, comm: Any, limit: float) -> WorkerGroup:
        """Return the group of a communicator, every rank of which calls this; with None, this process alone."""
        if comm is None:
            return cls(None, 0, 1, True, True, limit)
        from mpi4py import MPI

        rank, size = comm.Get_rank(), comm.Get_size()
        if size < 2:
            raise FedClipError(
                "a simulation over MPI takes a server and at least one worker, and there is 1 rank: start more by "
                "mpirun or fedclip launch, or write comm_args.backend: sp"
            )
        with together(comm, f"rank {rank}, before round 1", "the count of ranks", limit):
            here = comm.Split_type(MPI.COMM_TYPE_SHARED)
        first, one = here.Get_rank() == 0, here.Get_size() == size
        here.Free()
        return cls(comm, rank, size - 1, first, one, limit)

    @property
    def names(self) -> list[str]:
        """What ranks are called, by rank."""
        return ["server", *(f"worker {number}" for number in range(1, self.workers + 1))]

    def exchange(
        self,
        card: Any,
        judge: Callable[[list[Any]], Sequence[Any]],
        fault: Exception | None,
        verdict: type[GoOn],
        layouts: Layouts | None = None,
    ) -> Any:
        """Hand in a card and return the verdict, as :func:`~...startup.rank_status.exchange_status` does."""
        if self.comm is None:
            return exchange_here([StatusExchange(card, judge, fault)])[0]
        return exchange_status(self.comm, card, self.names, self.limit, judge, fault, verdict, layouts)

    def ask(
        self, worker: Worker | None, limit: float, expected: ExpectedTurns
    ) -> Callable[[Turn], Sequence[WorkerAnswer]]:
        """Return what asks all workers and waits ``limit`` seconds for their answers; for the server.

        A FederationError names a worker whose answer is not the one that the plan has for it.
        """
        if self.comm is None:
            assert worker is not None, "this process is the worker too"
            return lambda turn: [worker.act(turn)]
        exchange = self._exchange(limit, expected.answers)

        def _ask(turn: Turn) -> Sequence[WorkerAnswer]:
            exchange.to_silos([turn] * (self.workers + 1))
            answers = exchange.from_silos(WorkerAnswer)
            expected.require(turn, answers)
            return answers

        return _ask

    def serve(self, worker: Worker, limit: float, expected: ExpectedTurns) -> None:
        """Act on the server's turns until the last one; for a worker."""
        exchange = self._exchange(limit, expected.turns)
        while True:
            turn: Turn = exchange.from_server(Turn)
            exchange.to_server(worker.act(turn))
            if not turn.train:
                return

    def _exchange(self, limit: float, layouts: Layouts) -> Exchange:
        return Exchange(self.comm, self.names, limit, "in a round", "fedclip_args.round_timeout", layouts)
