"""FedML's hooks reach the pair: defences, weights; and what bad updates get."""

import logging
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from fedclip_plugin.errors import FederationError
from fedclip_plugin.features import FeatureSet, SiloFeatures, TextFeatures
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.roles.update_check import update_fault
from fedclip_plugin.methods import create_adapter
from fedclip_plugin.runs import RunFolder
from tests.support.workshop import CLIP_TINY_WIDTH, fedml_args, frozen, training_settings

WIDTH, CLASSES = 8, ("cat", "dog", "hen")
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("fresh_fedml")


def task():
    text = torch.nn.functional.normalize(torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1)
    return Task("fedclip", "clip-tiny", "0", "fp32", CLASSES, "a {}", TextFeatures(text, 20.0), "0")


def features():
    generator = torch.Generator().manual_seed(1)
    data = FeatureSet(torch.randn(40, WIDTH, generator=generator), torch.arange(40) % 3)
    return SiloFeatures(data, data, data)


def trainer(number=0, **settings):
    own, args, folder = training_settings(**settings), fedml_args(**settings), RunFolder(Path("run"))
    made = FedClipTrainer(create_adapter("fedclip", frozen(WIDTH), 0), args, own, task(), f"silo_{number}", folder)
    made.set_id(number)
    return made


def aggregator(silos=3, least=None, train=None, **settings):
    names = [f"silo_{number}" for number in range(silos)]
    args = fedml_args(**settings)
    return FedClipAggregator(
        create_adapter("fedclip", frozen(WIDTH), 0),
        args,
        training_settings(min_silos=least or silos, **settings),
        task(),
        names,
        RunFolder(Path("run")),
        splits=[{"train": train}] * silos if train else (),
    )


def update(value):
    tensors = create_adapter("fedclip", frozen(WIDTH), 0).state_dict()
    return OrderedDict((name, torch.full_like(tensor, float(value))) for name, tensor in tensors.items())


def average(server, updates):
    kept, indices = server.on_before_aggregation(updates)
    return server.on_after_aggregation(server.aggregate(kept)), indices


def trained(silo):
    silo.train(features(), CPU, silo.args)
    silo.on_after_local_training(features(), CPU, silo.args)
    return torch.cat([tensor.flatten() for tensor in silo.get_model_params().values()])


def test_training_depends_on_seed_silo_and_round_only():
    torch.manual_seed(1)
    first = trained(trainer(1))
    torch.manual_seed(2)
    assert torch.equal(first, trained(trainer(1)))
    assert not torch.equal(first, trained(trainer(2)))
    assert not torch.equal(first, trained(trainer(1, round_idx=1)))
    assert not torch.equal(first, trained(trainer(1, random_seed=1)))


def test_silos_weigh_alike_or_by_their_images():
    updates = [(10, update(0)), (10, update(0)), (20, update(1))]
    for weighting, expected in (("uniform", 1 / 3), ("samples", 1 / 2)):
        averaged, indices = average(aggregator(weighting=weighting), updates)
        assert indices == [0, 1, 2]
        assert all(torch.allclose(tensor, torch.full_like(tensor, expected)) for tensor in averaged.values())
    assert float(updates[0][1]["hidden.bias"][0]) == 0, "the updates themselves are left alone"


def test_krum_leaves_the_outlier_out():
    server = aggregator(5, enable_defense=True, defense_type="krum", byzantine_client_num=1)
    values = [1.0, 1.1, 50.0, 0.9, 1.05]
    averaged, _ = average(server, [(10, update(value)) for value in values])
    assert 0.8 < float(averaged["gate.bias"][0]) < 1.2


def test_multikrum_averages_the_closest():
    settings = {"enable_defense": True, "defense_type": "multikrum", "byzantine_client_num": 1, "krum_param_m": 2}
    server = aggregator(6, **settings)
    averaged, _ = average(server, [(10, update(value)) for value in (1.0, 1.1, 50.0, 0.9, 1.05, 1.0)])
    assert 0.8 < float(averaged["gate.bias"][0]) < 1.2


def nonsense():
    good, quantised = update(1), torch.quantize_per_tensor(torch.zeros(8), 0.1, 0, torch.quint8)
    return {
        "a NoneType instead of named tensors": (10, None),
        "a Tensor instead of named tensors": (10, torch.zeros(3)),
        "tensors missing: gate.bias; unknown: none": (10, OrderedDict(list(good.items())[:-1])),
        "tensors missing: none; unknown: extra": (10, OrderedDict(good, extra=torch.zeros(1))),
        "hidden.weight is a float, not a tensor": (10, OrderedDict(good, **{"hidden.weight": 1.0})),
        "hidden.bias is float32 [9], expected float32 [8]": (10, good | {"hidden.bias": torch.zeros(9)}),
        "hidden.bias is float64 [8], expected float32 [8]": (10, good | {"hidden.bias": torch.zeros(8).double()}),
        "gate.bias holds NaN or infinite values": (10, good | {"gate.bias": torch.full((8,), float("inf"))}),
        "nan training images instead of a number of them": (float("nan"), good),
        "-5 training images instead of a number of them": (-5, good),
        "True training images instead of a number of them": (True, good),
        "a number of 20,001 bits training images instead of the 10": (2**20_000, good),
        "11 training images instead of the 10 of the start": (11, good),
        "a bytes training images instead of a number of them": (b"ten", good),
        "x\\nforged: 1\\x1b]0;title" + "x" * 57 + "...": (
            10,
            OrderedDict(good, **{"x\nforged: 1\x1b]0;title" + "x" * 2**20: 1}),
        ),
        "unknown: 7": (10, OrderedDict(good) | {7: torch.zeros(1)}),
        "gate.bias is complex64 [8], expected float32 [8]": (
            10,
            good | {"gate.bias": torch.zeros(8, dtype=torch.cfloat)},
        ),
        "gate.bias is bool [8], expected float32 [8]": (10, good | {"gate.bias": torch.zeros(8, dtype=torch.bool)}),
        "gate.bias is int64 [8], expected float32 [8]": (10, good | {"gate.bias": torch.zeros(8, dtype=torch.int64)}),
        "gate.bias is sparse_coo float32 [8], expected": (10, good | {"gate.bias": torch.zeros(8).to_sparse()}),
        "gate.bias is quint8 [8], expected": (10, good | {"gate.bias": quantised}),
        "gate.bias is float32 [8] without values, expected": (10, good | {"gate.bias": torch.zeros(8, device="meta")}),
        "gate.bias is float32 [1099511627776, 1], expected": (
            10,
            good | {"gate.bias": torch.zeros(1, 1).expand(2**40, 1)},
        ),
        "gate.bias is a Parameter, not a tensor": (10, good | {"gate.bias": torch.nn.Parameter(torch.zeros(8))}),
    }


@pytest.mark.parametrize("reason", list(nonsense()))
def test_an_unusable_update_is_dropped_with_the_silos_name(reason, caplog):
    server = aggregator(least=2, weighting="samples", train=10)
    with caplog.at_level(logging.WARNING):
        averaged, indices = average(server, [(10, update(1)), nonsense()[reason], (10, update(3))])
    assert server.dropped == {"silo_1": server.dropped["silo_1"]}
    assert reason in server.dropped["silo_1"]
    assert f"round 1: the update of silo_1 is dropped: {server.dropped['silo_1']}" in caplog.text
    assert indices == [0, 2]
    assert torch.allclose(averaged["gate.bias"], torch.full((WIDTH,), 2.0))
    assert len(server.dropped["silo_1"]) < 400


def test_a_great_many_names_are_told_in_one_line():
    names = dict.fromkeys(map("n{}".format, range(10**5)))
    assert update_fault(1, names, {}) == "tensors missing: none; unknown: n0, n1, n10 and 99,997 more"


def test_too_few_usable_updates_stop_the_round():
    server = aggregator(least=3)
    with pytest.raises(FederationError, match=r"round 1: 2 usable updates, min_silos is 3 \(silo_1: a NoneType"):
        server.on_before_aggregation([(10, update(1)), (10, None), (10, update(3))])


@pytest.mark.parametrize(("averaged", "told"), [(True, ["target"]), (False, [])])
def test_only_an_adapter_that_was_scored_carries_its_accuracy(tmp_path, averaged, told):
    server = aggregator(averaged=averaged)
    server.folder = RunFolder(tmp_path)
    server.folder.adapters.mkdir()
    average(server, [(10, update(0.1)), (10, update(0.2)), (10, update(0.3))])
    server.score_target(features().test)
    server.save(1)
    assert server.target is not None
    assert list(server.folder.load_round(1).metrics) == told


@pytest.mark.parametrize(("method", "trained_classes"), [("lora", False), ("fedclip", False), ("linear_probe", True)])
def test_class_features_are_saved_where_the_method_trains_them_and_not_where_they_are_copied(method, trained_classes):
    base = frozen(CLIP_TINY_WIDTH)
    adapter = create_adapter(method, base, 0, dtype=torch.float64)
    if method == "lora":  # as on a GPU: elsewhere, the frozen features are a tensor of their own
        assert adapter.class_features(base.text) is not base.text.features
    own = Task(method, "clip-tiny", "0", "fp32", CLASSES, "a {}", base.text, "0").saved(1, adapter, {})
    assert (own.class_features is not None) == trained_classes


def test_the_figures_that_fedml_asks_of_a_silo():
    silo = trainer()
    data = features().test
    figures = silo.test(data, CPU, silo.args)
    assert figures["test_total"] == 40
    assert 0 <= figures["test_correct"] <= 40
    assert figures["test_loss"] > 0
