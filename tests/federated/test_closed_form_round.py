"""A closed-form method in a federation: exact sums, choices by validation, own adapters, and silos taken out."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fedclip_plugin.errors import FederationError
from fedclip_plugin.features import FeatureSet, TextFeatures
from fedclip_plugin.federated.forgetting import forget
from fedclip_plugin.federated.roles.choice import LOSS_QUANTUM, TEMPERATURES, Trials, solutions_of
from fedclip_plugin.federated.roles.closed_form_round import ClosedFormRound, Sent
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.methods import METHODS, adapter_class, create_adapter
from fedclip_plugin.methods.closed_form.adapters import Ridge, Solution
from fedclip_plugin.methods.closed_form.feature_sums import Statistics
from fedclip_plugin.runs import RunFolder, load_adapter
from tests.support.in_process_federation import SILOS, Federation, silo_features
from tests.support.workshop import fedml_args, frozen, training_settings

SOLVED = [name for name, method in METHODS.items() if method.rounds is not None]
SIZES = {"train": 20, "validation": 10, "test": 10}


def federation(folder, method="ridge", **changes):
    return Federation(folder, method=method, comm_round=1, target=silo_features(7).test, **changes)


def final(run):
    return load_adapter(run.folder.adapters / "final")


def together():
    parts = [silo_features(rank).train for rank in (1, 2, 3)]
    return FeatureSet(torch.cat([part.features for part in parts]), torch.cat([part.labels for part in parts]))


@pytest.mark.usefixtures("fresh_fedml")
@pytest.mark.parametrize("method", SOLVED)
def test_it_ends_with_one_round_and_the_centralised_solution(tmp_path, method):
    run = federation(tmp_path / "run", method).run()
    assert [line.round for line in run.lines] == [0, 1]
    assert run.lines[1].answered == SILOS
    assert run.lines[1].train_loss is None
    saved, of = final(run), adapter_class(method)
    assert saved.round == 1
    text = TextFeatures(torch.tensor(saved.text_features), 20.0)
    found = solutions_of(of, Statistics.of(together(), 3, of.needs_gram))
    rows = [of.mixed(text, each, mix, 1.0)["rows"] for each in found for mix in of.mixes]
    assert min(float((row - torch.tensor(saved.class_features)).abs().max()) for row in rows) < 1e-6
    assert (saved.class_biases is None) == (not of.has_biases)
    assert any(abs(saved.logit_scale - 20.0 * factor) < 1e-3 for factor in TEMPERATURES)


@pytest.mark.usefixtures("fresh_fedml")
def test_it_does_not_depend_on_the_order_of_answers(tmp_path):
    runs = [federation(tmp_path / f"run_{seed}").run(seed) for seed in (None, 1, 2)]
    weights = {(run.folder.adapters / "final" / "adapter.safetensors").read_bytes() for run in runs}
    assert len(weights) == 1


@pytest.mark.usefixtures("fresh_fedml")
@pytest.mark.parametrize("method", SOLVED)
@pytest.mark.parametrize("gone", [0, 2])
def test_a_forgotten_silo_leaves_the_bytes_of_a_run_that_never_had_it(tmp_path, method, gone):
    run = federation(tmp_path / "run", method, forgettable=True).run()
    found = forget(RunFolder(run.folder.path), SILOS[gone])
    aggregator = run.server._aggregator
    alone = ClosedFormRound(adapter_class(method), aggregator.task.text)
    others = [index for index in range(3) if index != gone]
    trainers = [run.silos[index]._driver.silo_trainer for index in others]
    data = [silo_features(index + 1) for index in others]
    sums = [trainer.sums(own.train).to_wire() for trainer, own in zip(trainers, data, strict=True)]
    assert alone.take_sums(sent(sums)) == {}
    asked = alone.candidates()
    tried = [run.silos[index]._driver.try_solutions(asked)[0] for index in others]
    assert alone.take_trials(sent(tried)) == {}
    wanted = alone.result()
    assert {name: tensor.numpy().tobytes() for name, tensor in wanted.items()} == {
        name: array.tobytes() for name, array in found.tensors.items()
    }
    assert found.class_features.tobytes() == wanted["rows"].numpy().tobytes()
    assert found.tensors["rows"].tobytes() != final(run).tensors["rows"].tobytes()
    assert aggregator.closed_form.silos == SILOS


def sent(each):
    return [Sent(f"silo {number}", SIZES["train"], tensors, SIZES) for number, tensors in enumerate(each)]


@pytest.mark.usefixtures("fresh_fedml")
@pytest.mark.parametrize("method", SOLVED)
def test_each_silo_may_solve_an_adapter_of_its_own(tmp_path, method):
    run = federation(tmp_path / "run", method, personal_statistics=True).run()
    assert all(set(silo.personal) == {"validation", "test"} for silo in run.lines[1].silos.values())
    plain = federation(tmp_path / "plain", method).run()
    assert final(plain).tensors["rows"].tobytes() == final(run).tensors["rows"].tobytes()
    for name in SILOS:
        own = load_adapter(run.folder.personal(name) / "adapter")
        assert own.method == method
        line = run.lines[1].silos[name]
        assert line.personal["validation"] >= line.validation, "a share of 1 gives the shared adapter"


def trainer_of(folder, **settings):
    own = training_settings(comm_round=1, **settings)
    task = dataclasses.make_dataclass("Task", ["classes"])(("cat", "dog", "hen"))
    return FedClipTrainer(create_adapter("ridge", frozen(8), 0), fedml_args(), own, task, "art", RunFolder(folder))


def test_small_classes_are_not_sent_and_the_log_says_so(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        found = trainer_of(tmp_path, min_class_count=7).sums(silo_features(1).train)
    assert found.counts.tolist() == [7, 7, 0]
    assert "art sends nothing of hen: fewer than 7 images (fedclip_args.min_class_count)" in caplog.text


def test_a_single_images_feature_is_not_sent_without_a_warning(tmp_path, caplog):
    few = silo_features(1).train.subset(torch.tensor([0, 1, 3]))
    with caplog.at_level("WARNING"):
        found = trainer_of(tmp_path).sums(few)
    torch.testing.assert_close(found.sums[1], normalize(few.features[1].double(), dim=0))
    assert "art sends the sum of a single image, its feature, of dog" in caplog.text
    assert trainer_of(tmp_path, min_class_count=2).sums(few).counts.tolist() == [2, 0, 0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sums.scale": torch.full((3,), float("nan"), dtype=torch.float64)}, "sums.scale holds NaN"),
        ({"sums": torch.zeros(3, 8)}, "sums is float32"),
        ({"counts": torch.tensor([100, 0, 0])}, "it counts 100 images, of at most 20"),
        ({"gram": torch.zeros(36, dtype=torch.int32)}, "trace of its Gram matrix"),
    ],
)
def test_sums_that_cannot_be_are_left_out_by_the_silos_name(change, text):
    solver = ClosedFormRound(Ridge, frozen(8).text)
    good = Statistics.of(silo_features(1).train, 3, True).to_wire()
    faults = solver.take_sums(sent([good, {**good, **change}]))
    assert list(faults) == ["silo 1"]
    assert text in faults["silo 1"]
    assert solver.silos == ("silo 0",)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"right": torch.full((1, 5, 6), 11)}, "more than the 10 validation images"),
        ({"losses": torch.full((1, 5, 6, len(TEMPERATURES)), -1)}, "a loss is below 0"),
        ({"right": torch.zeros(1, 5, 5, dtype=torch.int64)}, "right is int64 [1, 5, 5]"),
    ],
)
def test_trials_that_cannot_be_are_left_out(change, text):
    solver = ClosedFormRound(Ridge, frozen(8).text)
    solver.take_sums(sent([Statistics.of(silo_features(1).train, 3, True).to_wire()]))
    tried = {name: tensor[None] for name, tensor in Trials.none(5, 6).to_wire().items()} | change
    faults = solver.take_trials(sent([tried]))
    assert text in faults["silo 0"]


@pytest.mark.usefixtures("fresh_fedml")
def test_a_silo_whose_sums_are_left_out_and_who_is_late_then_counts_once(tmp_path):
    aggregator = federation(tmp_path / "run", min_silos=2).server._aggregator
    good = Statistics.of(silo_features(1).train, 3, True).to_wire()
    parts = [good, good, {**good, "sums": torch.zeros(3, 8)}]
    sums = [Sent(name, 20, part, SIZES) for name, part in zip(SILOS, parts, strict=True)]
    aggregator.take_sums(sums)
    assert list(aggregator.dropped) == [SILOS[2]]
    tried = {name: tensor[None] for name, tensor in Trials.none(5, 6).to_wire().items()}
    assert aggregator.take_trials([Sent(name, 20, tried, SIZES) for name in SILOS[:2]])["rows"].shape == (3, 8)
    with pytest.raises(FederationError, match="1 usable update, min_silos is 2"):
        aggregator.take_trials([Sent(name, 20, tried, SIZES) for name in SILOS[1:]])


def test_trials_count_what_each_mix_and_temperature_gives():
    data, text = silo_features(1).validation, frozen(8).text
    solution = Solution(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.0, -0.1]))
    found = Trials.of(data, text, [solution], [0.5, 2.0])
    unit = normalize(data.features, dim=-1)
    for place, mix in enumerate((0.5, 2.0)):
        logits = text.logit_scale * unit @ text.features.T + mix * (unit @ solution.weights.T + solution.biases)
        assert int(found.right[0, place]) == int((logits.argmax(-1) == data.labels).sum())
        for number, temperature in enumerate(TEMPERATURES):
            loss = torch.nn.functional.cross_entropy(temperature * logits, data.labels, reduction="sum")
            assert float(found.losses[0, place, number]) * LOSS_QUANTUM == pytest.approx(
                float(loss), rel=1e-4, abs=1e-4
            )


def test_the_most_correct_solution_wins_then_the_smallest_loss_then_the_first():
    trials = Trials.none(2, 2)
    assert trials.best() == (0, 0, 1.0)
    trials.right[:] = torch.tensor([[3, 4], [4, 2]])
    trials.losses[0, 1], trials.losses[1, 0] = 9, 8
    assert trials.best()[:2] == (1, 0)
    assert trials.best(ties_by_loss=False)[:2] == (0, 1)
    trials.losses[1, 0, 3] = 1
    assert trials.best().temperature == TEMPERATURES[3]


def test_a_hundred_clients_are_the_centralised_solution():
    rng = np.random.default_rng(0)
    features = torch.tensor(rng.normal(size=(2000, 64)) + 2 * rng.normal(size=64), dtype=torch.float32)
    labels = torch.tensor(rng.integers(0, 7, size=2000))
    data, text = FeatureSet(features, labels), frozen(64, 7).text
    owners, solver = torch.tensor(rng.integers(0, 100, size=2000)), ClosedFormRound(Ridge, text)
    clients = [data.subset(torch.nonzero(owners == client).flatten()) for client in range(100)]
    sums = [Statistics.of(own, 7, True).to_wire() for own in clients]
    numbered = enumerate(zip(clients, sums, strict=True))
    assert solver.take_sums([Sent(str(number), len(own), one, {}) for number, (own, one) in numbered]) == {}
    unit = normalize(features.double(), dim=-1).numpy()
    for penalty, found in zip(Ridge.penalties, solutions_of(Ridge, solver.total()), strict=True):
        wanted = np.linalg.solve(unit.T @ unit + penalty * np.eye(64), unit.T @ np.eye(7)[labels.numpy()]).T
        np.testing.assert_allclose(found.weights.numpy(), wanted, atol=1e-6, rtol=0)
