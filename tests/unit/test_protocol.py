"""Server and silos talk in one process: any order of messages, sampled silos, late and unasked answers."""

import random

import numpy as np
import pytest
import torch
from support import fedml_args, results

from fedclip_plugin.adapters import create_adapter
from fedclip_plugin.features import FeatureSet, SiloFeatures, TextFeatures
from fedclip_plugin.federated import guard
from fedclip_plugin.federated.aggregator import FedClipAggregator
from fedclip_plugin.federated.messages import ROUND
from fedclip_plugin.federated.recorder import RoundRecorder
from fedclip_plugin.federated.server import FedClipServer, SiloAverager
from fedclip_plugin.federated.silo import FedClipSilo, SiloAdapter
from fedclip_plugin.federated.task import Task
from fedclip_plugin.federated.trainer import FedClipTrainer
from fedclip_plugin.federated.transport import decode, encode
from fedclip_plugin.runs import RunFolder, load_adapter

WIDTH, CLASSES, SILOS = 8, ("cat", "dog", "hen"), ("art", "cartoon", "photo")
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("fresh_fedml")


class Wire:
    """In place of MPI: encoded messages wait in one line for each pair of ranks."""

    def __init__(self):
        self.lines = {}
        self.managers = {}
        self.over = set()

    def pairs(self):
        """Return the pairs of ranks between which a message waits."""
        return sorted(pair for pair, line in self.lines.items() if line and pair[1] not in self.over)

    def deliver(self, pair):
        payload = self.lines[pair].pop(0)
        message = decode(payload)
        self.managers[pair[1]].com_manager.bytes_received += len(payload)
        self.managers[pair[1]].receive_message(message.get_type(), message)


class End:
    """One rank's end of the wire, as the managers see it."""

    def __init__(self, wire, rank):
        self.wire, self.rank = wire, rank
        self.bytes_sent = self.bytes_received = 0

    def send_message(self, message):
        payload = encode(message)
        self.bytes_sent += len(payload)
        self.wire.lines.setdefault((self.rank, int(message.get_receiver_id())), []).append(payload)

    def stop_receive_message(self):
        self.wire.over.add(self.rank)


class Wired:
    """Mixin: the managers without MPI."""

    def _init_manager(self):
        self.com_manager = End(self.comm, self.rank)
        self.comm.managers[self.rank] = self


class Server(Wired, FedClipServer):
    pass


class Silo(Wired, FedClipSilo):
    pass


def arguments(wire, rank, **changes):
    return fedml_args(
        **{
            "comm": wire,
            "rank": rank,
            "worker_num": 3,
            "backend": "GRPC",
            "scenario": "horizontal",
            "dataset": "own",
            "using_mlops": False,
            "enable_wandb": False,
            "client_id_list": str([rank] if rank else [1, 2, 3]),
            "client_num_in_total": 3,
            "client_num_per_round": 3,
            "silos_per_round": 3,
            "comm_round": 4,
            "batch_size": 8,
            "frequency_of_the_test": 1,
            "round_timeout": 1e6,
            "start_round": 0,
            "run_id": "0",
        }
        | changes
    )


def silo_features(number):
    generator = torch.Generator().manual_seed(number)
    parts = [FeatureSet(torch.randn(n, WIDTH, generator=generator), torch.arange(n) % 3) for n in (20, 10, 10)]
    return SiloFeatures(*parts)


class Federation:
    """A server and three silos on a wire."""

    def __init__(self, folder, start_round=0, adapter=None, **changes):
        from fedml import mlops

        self.wire, self.folder, self.lines = Wire(), RunFolder(folder), []
        self.folder.prepare("# digest: d\n", "d", 0, resume=start_round > 0)
        text = torch.nn.functional.normalize(torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(9)), dim=-1)
        task = Task("fedclip", "clip-tiny", "0", "fp32", CLASSES, "a {}", TextFeatures(text, 20.0), "d")
        settings = {"start_round": start_round, **changes}
        args = arguments(self.wire, 0, **settings)
        mlops.pre_setup(args)
        model = create_adapter("fedclip", WIDTH, 0)
        if adapter is not None:
            model.load_state_dict({name: torch.tensor(array) for name, array in adapter.tensors.items()})
        pair = FedClipAggregator(model, args, task, SILOS, min_silos=args.silos_per_round, folder=self.folder)
        recorder = RoundRecorder(self.folder, SILOS, 3, self.lines.append)
        self.server = Server(args, SiloAverager(args, None, pair), recorder)
        if start_round == 0:
            self.server.begin_with(None, None)
        self.silos = [self._silo(rank, task, settings) for rank in (1, 2, 3)]
        for manager in (*self.silos, self.server):
            manager.register_message_receive_handlers()
            manager.handle_message_connection_ready(None)

    def _silo(self, rank, task, settings):
        args = arguments(self.wire, rank, **settings)
        model = create_adapter("fedclip", WIDTH, 0)
        trainer = FedClipTrainer(model, args, task, SILOS[rank - 1])
        return Silo(args, SiloAdapter(args, CPU, model, silo_features(rank), trainer))

    def run(self, seed=None, until=lambda: False, held=()):
        """Deliver messages, in an order that ``seed`` mixes; those from ranks in ``held`` wait until the end."""
        rng = random.Random(seed)
        while (pairs := self.wire.pairs()) and not until():
            free = [pair for pair in pairs if pair[0] not in held] or pairs
            self.wire.deliver(rng.choice(free) if seed is not None else free[0])
        return self


@pytest.fixture
def straight(tmp_path):
    return Federation(tmp_path / "straight").run()


def weights(federation, name="final"):
    return (federation.folder.adapters / name / "adapter.safetensors").read_bytes()


def test_a_federation_ends_with_a_line_a_round(straight):
    assert straight.wire.over == {0, 1, 2, 3}
    assert [line["round"] for line in straight.lines] == [0, 1, 2, 3, 4]
    assert all(line["answered"] == list(SILOS) for line in straight.lines[1:])


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_messages_changes_nothing(straight, tmp_path, seed):
    mixed = Federation(tmp_path / "mixed").run(seed)
    assert weights(mixed) == weights(straight)
    assert weights(mixed, "best") == weights(straight, "best")
    assert results(mixed.lines) == results(straight.lines)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_resumed_after_any_round_ends_the_same(straight, tmp_path, stop):
    first = Federation(tmp_path / "torn")
    first.run(until=lambda: len(first.lines) > stop)
    done = first.folder.last_complete()["round"]
    again = Federation(tmp_path / "torn", start_round=done, adapter=first.folder.load_round(done)).run()
    assert weights(again) == weights(straight)
    assert weights(again, "best") == weights(straight, "best")
    assert results(again.folder.lines()) == results(straight.folder.lines())


def test_the_final_adapter_of_a_shorter_run_stays_until_the_longer_one_ends(straight):
    folder = straight.folder
    longer = Federation(folder.path, start_round=4, adapter=folder.load_round(4), comm_round=10)
    longer.run(until=lambda: len(longer.lines) > 3)
    assert load_adapter(folder.adapters / "final").round == 4
    longer.run()
    assert load_adapter(folder.adapters / "final").round == 10
    numbers = {int(path.name[6:]) for path in folder.adapters.glob("round_*")}
    assert numbers == {8, 9, 10} | {folder.lines()[-1]["best_round"]}


def test_sampled_silos_train_and_all_report(tmp_path):
    runs = [Federation(tmp_path / f"{seed}", silos_per_round=2).run(seed) for seed in (1, 2)]
    draws = [np.random.default_rng([0, number, 2]).choice(3, 2, replace=False) for number in range(4)]
    for run in runs:
        assert [line["round"] for line in run.lines] == [0, 1, 2, 3, 4]
        assert [line["answered"] for line in run.lines[1:]] == [[SILOS[i] for i in sorted(draw)] for draw in draws]
        for line in run.lines[1:]:
            assert [name for name in SILOS if line["silos"][name]["train_loss"] is not None] == line["answered"]
    assert weights(runs[0]) == weights(runs[1])


def test_rounds_go_on_while_a_silo_that_was_not_drawn_is_late(tmp_path):
    late = next(index for index in range(3) if index not in draw(0) and index not in draw(1))
    run = Federation(tmp_path / "late", silos_per_round=1, comm_round=2)
    run.run(until=lambda: run.server.args.round_idx == 2, held=(late + 1,))
    assert [line["round"] for line in run.lines] == [], "no line before all have reported"
    assert run.server._watchdog._deadlines.keys() == set(SILOS)
    run.run()
    assert [line["round"] for line in run.lines] == [0, 1, 2]
    assert run.server._watchdog._deadlines == {}


def draw(number):
    return np.random.default_rng([0, number, 2]).choice(3, 1, replace=False)


def test_an_answer_for_another_round_ends_the_job(tmp_path, monkeypatch, capfd):
    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(guard.os, "_exit", leave)
    run = Federation(tmp_path / "unasked")
    run.wire.Abort = lambda code: None
    run.run(until=lambda: (1, 0) in run.wire.pairs() and run.server.is_initialized)
    while (message := decode(run.wire.lines[1, 0].pop(0))).get(ROUND) is None:
        pass
    message.add_params(ROUND, 7)
    with pytest.raises(SystemExit):
        run.server.receive_message(message.get_type(), message)
    assert "silo art answered for round 8 out of turn" in capfd.readouterr().err
