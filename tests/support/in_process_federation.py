"""A server and silos, three as a rule, in one process: the product's own managers, and messages that wait."""

import random

import numpy as np
import torch

from fedclip_plugin.features import FeatureSet, SiloFeatures, TextFeatures
from fedclip_plugin.federated.managers.averaging_driver import AveragingDriver
from fedclip_plugin.federated.managers.round_recorder import RoundRecorder
from fedclip_plugin.federated.managers.server import FedClipServer
from fedclip_plugin.federated.managers.silo import FedClipSilo
from fedclip_plugin.federated.managers.silo_driver import SiloDriver
from fedclip_plugin.federated.messages.fedml_messages import announced, decode
from fedclip_plugin.federated.messages.leaving import sending_through
from fedclip_plugin.federated.messages.local_transport import LocalNetwork, LocalTransport
from fedclip_plugin.federated.privacy.silo_privacy import is_spent, silo_privacy
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.methods import ZeroShot, create_adapter, load_parameters
from fedclip_plugin.methods.closed_form.adapters import ClosedForm
from fedclip_plugin.runs import RunFolder
from tests.support.workshop import fedml_args, frozen, training_settings

WIDTH, CLASSES, SILOS = 8, ("cat", "dog", "hen"), ("art", "cartoon", "photo")
CPU = torch.device("cpu")


class Wire(LocalNetwork):
    """The product's network of one process, in place of MPI's communicator: a test may deliver in any order."""

    def __init__(self, silos=3):
        super().__init__(silos + 1)

    @property
    def over(self):
        return {rank for rank, transport in self.transports.items() if transport.over}

    def message(self, pair):
        """Return the next message of a pair of ranks as its receiver will see it; it goes on waiting."""
        waiting, end = self.waiting[pair][0], self.transports[pair[1]]
        return decode(announced(waiting.header, end.expected, pair[0], end.names[pair[0]], pair[1]), waiting.contents)

    def pairs(self):
        """Return the pairs of ranks between which a message waits."""
        return sorted(pair for pair in self.waiting if pair[1] not in self.over)


class Wired:
    """Mixin: the managers without MPI."""

    def _init_manager(self):
        self.com_manager = LocalTransport(self.comm, self.rank, self.names, self.expected(), self._heard, self.leaves)
        self.com_manager.add_observer(self)


class Server(Wired, FedClipServer):
    pass


class Silo(Wired, FedClipSilo):
    pass


def arguments(wire, rank, **changes):
    silos = 3 if wire is None else wire.size - 1
    return fedml_args(
        **{
            "comm": wire,
            "rank": rank,
            "worker_num": silos,
            "backend": "GRPC",
            "scenario": "horizontal",
            "dataset": "own",
            "using_mlops": False,
            "enable_wandb": False,
            "client_id_list": str([rank] if rank else list(range(1, silos + 1))),
            "client_num_in_total": silos,
            "client_num_per_round": silos,
            "comm_round": 4,
            "frequency_of_the_test": 1,
            "run_id": "0",
        }
        | changes
    )


def settings_of(**changes):
    """Return the settings of the same federation."""
    usual = {"comm_round": 4, "batch_size": 8, "round_timeout": 1e6}
    own = usual | changes
    return training_settings(**{"min_silos": own.get("silos_per_round", 3)} | own)


def silo_features(number):
    generator = torch.Generator().manual_seed(number)
    parts = [FeatureSet(torch.randn(n, WIDTH, generator=generator), torch.arange(n) % 3) for n in (20, 10, 10)]
    return SiloFeatures(*parts, np.arange(30, 40))


class Federation:
    """A server and silos on a wire; ``egress`` has, by rank, what a silo sends through."""

    def __init__(
        self, folder, start_round=0, adapter=None, target=None, method="fedclip", egress=None, names=SILOS, **changes
    ):
        from fedml import mlops

        self.wire, self.folder, self.lines, self.silos = Wire(len(names)), RunFolder(folder), [], []
        self.names, ranks = names, range(1, len(names) + 1)
        self.folder.prepare("# digest: d\n", "d", 0, resume=start_round > 0)
        text = torch.nn.functional.normalize(torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(9)), dim=-1)
        settings, features = settings_of(**{"silos_per_round": len(names)} | changes), TextFeatures(text, 20.0)
        task = Task(method, "clip-tiny", "0", "fp32", CLASSES, "a {}", features, "d", start=settings.start)
        self.histories = [{} for _ in range(len(names) + 1)]
        args = arguments(self.wire, 0, comm_round=settings.comm_round)
        mlops.pre_setup(args)
        model = create_adapter(method, frozen(WIDTH), 0, start=task.start)
        sizes = {"train": 20, "validation": 10, "test": 10}
        aggregator = FedClipAggregator(model, args, settings, task, names, self.folder, splits=[sizes] * len(names))
        solved, places = isinstance(model, ClosedForm), [self.folder.personal(name) for name in names]
        aggregator.spent = frozenset(
            index for index, place in enumerate(places) if is_spent(settings, place, index, len(names), solved)
        )
        if adapter is not None:
            load_parameters(model, {name: torch.tensor(array) for name, array in adapter.tensors.items()})
        recorder = RoundRecorder(self.folder, names, 3, self.lines.append)
        self.server = Server(args, AveragingDriver(args, target, aggregator, self.histories[0]), recorder)
        if start_round == 0:
            aggregator.score_target(target)
            self.server.begin()
        egress = egress or {}
        for rank in ranks:
            with sending_through(egress.get(rank)):
                self.silos.append(self._silo(rank, task, settings))
        for manager in (*self.silos, self.server):
            manager.register_message_receive_handlers()
            manager.handle_message_connection_ready(None)

    def _silo(self, rank, task, settings):
        args = arguments(self.wire, rank, comm_round=settings.comm_round)
        model = create_adapter(task.method, frozen(WIDTH), 0, start=task.start)
        data = silo_features(rank)
        parts = {"validation": data.validation, "test": data.test}
        zero_shot = {name: task.answer(ZeroShot(), part) for name, part in parts.items()}
        name, solved = self.names[rank - 1], isinstance(model, ClosedForm)
        privacy = silo_privacy(settings, self.folder.personal(name), len(data.train), rank - 1, len(self.names), solved)
        trainer = FedClipTrainer(model, args, settings, task, name, self.folder, zero_shot, privacy=privacy)
        return Silo(args, SiloDriver(args, CPU, model, data, trainer, self.histories[rank]))

    def run(self, seed=None, until=lambda: False, held=()):
        """Deliver messages, in an order that ``seed`` mixes; those from ranks in ``held`` wait until the end."""
        rng = random.Random(seed)
        with torch_threads(1):
            while (pairs := self.wire.pairs()) and not until():
                free = [pair for pair in pairs if pair[0] not in held] or pairs
                self.wire.deliver(rng.choice(free) if seed is not None else free[0])
        return self
