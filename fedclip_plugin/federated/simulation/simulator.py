"""FedML's simulator, as its runner drives it: this rank's part of a simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fedclip_plugin.features import InputSet
from fedclip_plugin.federated.after_training import answer_over, ask_here, ask_over, asks, closing_exchange
from fedclip_plugin.federated.managers.round_recorder import RoundRecorder
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.task import Histories
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.simulation.client_data import ClientData
from fedclip_plugin.federated.simulation.client_table import ClientTable
from fedclip_plugin.federated.simulation.expected_turns import ExpectedTurns
from fedclip_plugin.federated.simulation.round_plan import RoundPlan
from fedclip_plugin.federated.simulation.server import SimulationServer
from fedclip_plugin.federated.simulation.worker import Worker
from fedclip_plugin.federated.simulation.worker_group import WorkerGroup
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.methods import parameters_of

_HOOKS = ("enable_defense", "enable_attack")


class Simulator:
    """The server of a simulation, a worker of it, or both in one process.

    In place of FedML's own simulators (0.9.6), which leave clients untrained when there are fewer workers, never call
    the hooks of trainer and aggregator, and have no single process with a trainer of one's own.

    Attributes
    ----------
    settings
        Of the training.
    """

    def __init__(
        self,
        args: Any,
        device: torch.device,
        data: ClientData,
        target: InputSet | None,
        trainer: FedClipTrainer | None,
        aggregator: FedClipAggregator | None,
        recorder: RoundRecorder | None,
        histories: Histories | None = None,
    ) -> None:
        self.args = args
        pair = aggregator or trainer
        assert pair is not None, "a rank is server, worker, or both"
        self.settings = pair.settings
        self.group = WorkerGroup.of(args.comm, self.settings.round_timeout)
        trains = len(data) if self.settings.personal else self.settings.silos_per_round
        limit = self.settings.round_timeout * -(-trains // self.group.workers)  # a worker is each of its clients
        plan = RoundPlan(self.settings, data, self.group.workers)
        width = len(plan.kept) * sum(tensor.numel() for tensor in parameters_of(pair.model).values())
        table = ClientTable(pair.folder.path / "clients", len(data), width) if width else None
        self._expected = expected = ExpectedTurns(pair.model, self.settings, plan)
        self._limit, self._server, self._worker = limit, None, None
        self._pair, self._aggregator, self._target = pair, aggregator, target
        if trainer is not None:
            index, single = max(0, self.group.rank - 1), needs_single_updates(args, self.settings)
            on_gpu = device.type == "cuda"
            self._worker = Worker(trainer, args, device, data, plan, index, table, single, target, batched=on_gpu)
        if aggregator is not None:
            assert recorder is not None, "the server keeps records"
            aggregator.set_id(0)
            ask = self.group.ask(self._worker, limit, expected)
            self._server = SimulationServer(args, target, aggregator, recorder, data, plan, ask, table, histories)

    def where(self) -> str:
        """Return who this rank is."""
        return f"{self.group.names[self.group.rank]} (rank {self.group.rank})"

    def run(self) -> None:
        """Train until the last round; over MPI an exception on any rank ends the job."""
        if self.group.comm is None:
            self._part()
            return
        try:
            self._part()
        except BaseException as error:  # of SystemExit, which FedML raises, the other ranks would not hear either
            stop_job(self.group.comm, self.where(), error)

    def ask(self, say: Callable[[str], None]) -> None:
        """Ask the workers about the best and the last adapter after the last round, if the recipe wants that."""
        if not asks(self._pair):
            return
        if self.group.comm is None:
            assert self._worker is not None and self._aggregator is not None, "this process is both"
            ask_here([self._worker.calibrator().act], self._aggregator, self._target, say)
            return
        exchange = closing_exchange(self.group.comm, self.group.names, self._limit, self._pair.model)
        if self._aggregator is not None:
            ask_over(exchange, self.group.workers + 1, self._aggregator, self._target, say)
        elif self._worker is not None:
            answer_over(exchange, self._worker.calibrator().act)

    def _part(self) -> None:
        if self._server is not None:
            self._server.run()
            return
        assert self._worker is not None, "not the server"
        self.group.serve(self._worker, self._limit, self._expected)


def needs_single_updates(args: Any, settings: TrainingSettings) -> bool:
    """Return whether somebody looks at single updates: robust aggregation, or FedML's defences and attacks.

    Then every update of a round goes to the server, and lies in its memory, as in a cross-silo run.
    """
    return settings.robust_aggregation != "none" or any(getattr(args, switch, False) for switch in _HOOKS)
