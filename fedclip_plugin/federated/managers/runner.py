"""FedML's runner, mended for MPI by subclassing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from fedml import FedMLRunner

from fedclip_plugin.federated.after_training import answer_over, ask_over, asks, closing_exchange, silo_answers
from fedclip_plugin.federated.managers.averaging_driver import AveragingDriver
from fedclip_plugin.federated.managers.round_recorder import RoundRecorder
from fedclip_plugin.federated.managers.server import FedClipServer
from fedclip_plugin.federated.managers.silo import FedClipSilo
from fedclip_plugin.federated.managers.silo_driver import SiloDriver
from fedclip_plugin.federated.managers.watchdog import together
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.task import Histories
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.simulation.simulator import Simulator
from fedclip_plugin.methods import Adapter
from fedclip_plugin.runs import RoundRecord


def _say_nothing(told: object) -> None:
    """Ignore a round, or a line of text."""


class FedClipRunner(FedMLRunner):
    """Runs trainer and aggregator under FedML over MPI, without the faults of FedML 0.9.6.

    The constructor builds; :meth:`run` trains (FedML's own constructor already trains). What the subclasses mend:
    silo 0 trained by the wrong rank; round 1 repeating the silos of round 0; the first adapter sent once for each silo;
    five seconds of sleep at the end; exceptions that leave the job waiting; metrics of the silos that nobody collects.

    Parameters
    ----------
    args
        FedML's arguments after ``fedml.init`` or :func:`~fedclip_plugin.federated.startup.fedml_args.start_fedml`.
    dataset
        FedML's list of eight, as :func:`fedclip_plugin.build` returns it.
    client_trainer, server_aggregator
        The one of the other side may be None.
    on_round
        Called on the server with every complete round.
    histories
        Where every round's answers are kept; None keeps none.
    say
        Called on the server with a line of text: why the adapters are not calibrated.
    """

    def __init__(
        self,
        args: Any,
        device: torch.device,
        dataset: list[Any],
        model: Adapter,
        client_trainer: FedClipTrainer | None = None,
        server_aggregator: FedClipAggregator | None = None,
        on_round: Callable[[RoundRecord], None] = _say_nothing,
        histories: Histories | None = None,
        say: Callable[[str], None] = _say_nothing,
    ) -> None:
        self._on_round, self._histories, self._say = on_round, histories, say
        self._dataset, self._trainer, self._aggregator = dataset, client_trainer, server_aggregator
        super().__init__(args, device, dataset, model, client_trainer, server_aggregator)

    def _init_cross_silo_runner(
        self,
        args: Any,
        device: torch.device,
        dataset: list[Any],
        model: Adapter,
        client_trainer: FedClipTrainer | None = None,
        server_aggregator: FedClipAggregator | None = None,
    ) -> FedClipServer | FedClipSilo:
        if args.role == "server":
            assert server_aggregator is not None, "rank 0 needs the aggregator"
            return self._server(args, dataset[3], server_aggregator)
        assert client_trainer is not None, "a silo's rank needs the trainer"
        ((index, splits),) = dataset[5].items()
        return FedClipSilo(args, SiloDriver(args, device, model, splits, client_trainer, self._histories, index))

    def _init_simulation_runner(
        self,
        args: Any,
        device: torch.device,
        dataset: list[Any],
        model: Adapter,
        client_trainer: FedClipTrainer | None = None,
        server_aggregator: FedClipAggregator | None = None,
    ) -> Simulator:
        data, target, recorder = dataset[5], dataset[3], None
        if server_aggregator is not None:
            recorder = self._recorder(server_aggregator, data.sources, ())
        return Simulator(args, device, data, target, client_trainer, server_aggregator, recorder, self._histories)

    def _recorder(self, aggregator: FedClipAggregator, sources: Sequence[str], without: Sequence[str]) -> RoundRecorder:
        keep, averaged = aggregator.settings.keep_rounds, aggregator.settings.averaged
        return RoundRecorder(aggregator.folder, sources, keep, self._on_round, averaged, without)

    def _server(self, args: Any, target: Any, aggregator: FedClipAggregator) -> FedClipServer:
        aggregator.set_id(0)
        members = aggregator.members
        recorder = self._recorder(aggregator, members.of_all(aggregator.silos), members.without)
        server = FedClipServer(args, AveragingDriver(args, target, aggregator, self._histories), recorder)
        if recorder.last < 0:
            aggregator.score_target(target)
            server.begin()
        return server

    def connect(self) -> None:
        """Take part without waiting: the network of a :class:`LocalComm` delivers the messages."""
        self.runner.register_message_receive_handlers()
        self.runner.handle_message_connection_ready(None)

    def run(self) -> None:
        """Train, then ask what is asked after the last round; MPI stays open.

        All messages have arrived then, but for those of silos that are missing in the end.
        """
        self.runner.run()
        comm, who = self.runner.args.comm, self.runner.where()
        if comm is not None and self.runner.settings.round_grace is None:
            with together(comm, who, "the end of the federation", self.runner.settings.round_timeout):
                comm.Barrier()
        if isinstance(self.runner, Simulator):
            self.runner.ask(self._say)
        else:
            self._ask(comm)

    @property
    def missing(self) -> tuple[int, ...]:
        """On the server, ranks of the silos that were not there at the end (``round_grace``)."""
        return self.runner.missing if isinstance(self.runner, FedClipServer) else ()

    def _ask(self, comm: Any) -> None:
        """Ask the silos over MPI about the best and the last adapter, as far as the recipe asks for it."""
        server, silo, settings = self._aggregator, self._trainer, self.runner.settings
        pair = server or silo
        assert pair is not None, "a rank is the server or a silo"
        if not asks(pair):
            return
        names, missing = ("server", *(server.silos if server else ())), self.missing
        leniency = None if settings.round_grace is None else (settings.fewest_silos, settings.round_grace)
        exchange = closing_exchange(comm, names, settings.round_timeout, pair.model, missing, leniency)
        if server is not None:
            ask_over(exchange, comm.Get_size(), server, self._dataset[3], self._say)
            assert isinstance(self.runner, FedClipServer), "it has the aggregator"
            self.runner.missing = tuple(rank for rank in range(1, comm.Get_size()) if rank not in exchange.silos)
        elif silo is not None:
            (splits,) = self._dataset[5].values()
            answer_over(exchange, silo_answers(silo, splits))
