"""Rounds in which a silo sends something else than it trained: what the aggregator, the record and the console say."""

import logging

import pytest
import torch

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.build import require_plain
from fedclip_plugin.federated.job_here import run_job_here
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.fitting import _Progress
from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.report.run.run_page import run_page
from fedclip_plugin.runs import RunFolder
from tests.federated.simulation.test_simulation import CLIENTS
from tests.federated.test_hooks import aggregator, average, update
from tests.support.in_process_federation import Federation

pytestmark = pytest.mark.usefixtures("fresh_fedml")


@pytest.fixture
def scaled(monkeypatch):
    """Return a function that lets silos multiply their updates."""

    def of(factors):
        original, trained = FedClipTrainer.get_model_params, FedClipTrainer.train
        held = {}

        def train(trainer, *given):
            held[trainer.silo] = {name: tensor.clone() for name, tensor in original(trainer).items()}
            trained(trainer, *given)

        def send(trainer):
            own, factor = original(trainer), factors.get(trainer.silo)
            if factor is None or trainer.silo not in held:
                return own
            start = held[trainer.silo]
            return type(own)((name, start[name] + factor * (tensor - start[name])) for name, tensor in own.items())

        monkeypatch.setattr(FedClipTrainer, "train", train)
        monkeypatch.setattr(FedClipTrainer, "get_model_params", send)

    return of


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("weighting", ["uniform", "samples"])
def test_where_nobody_is_beyond_the_bound_the_average_has_the_bytes_it_has_without(weighting):
    updates = [(7, update(0.1)), (11, update(0.37)), (20, update(-0.9))]
    plain = average(aggregator(weighting=weighting), updates)[0]
    bounded = aggregator(weighting=weighting, robust_aggregation="norm_bound")
    assert same(average(bounded, updates)[0], plain)
    assert bounded.outliers == {}


def test_a_federation_without_outliers_ends_with_the_bytes_it_ends_with_without_the_bound(tmp_path):
    ends = []
    for name in ("none", "norm_bound"):
        run = Federation(tmp_path / name, robust_aggregation=name).run()
        ends.append((run.folder.adapters / "final" / "adapter.safetensors").read_bytes())
        assert all(line.outliers == {} for line in run.lines)
    assert ends[0] == ends[1]


def test_an_outlier_is_named_in_the_log_and_forgotten_in_the_next_round(caplog):
    server = aggregator(robust_aggregation="norm_bound", norm_bound_factor=4.0)
    start = server.get_model_params()
    near = [(10, type(start)((name, own + 0.1) for name, own in start.items())) for _ in range(3)]
    far = [*near[:2], (10, type(start)((name, own - 1e5) for name, own in start.items()))]
    with caplog.at_level(logging.WARNING):
        averaged, indices = average(server, far)
    assert indices == [0, 1, 2]
    assert list(server.outliers) == ["silo_2"]
    assert "round 1: silo_2: the norm of its update is" in caplog.text
    for name, own in averaged.items():
        assert torch.allclose(own - start[name], torch.full_like(own, (0.1 + 0.1 - 0.4) / 3), atol=1e-4)
    average(server, near)
    assert server.outliers == {}


def test_a_dropped_update_is_no_part_of_the_median_and_names_stay_right():
    server = aggregator(5, least=4, robust_aggregation="norm_bound", norm_bound_factor=4.0)
    start = server.get_model_params()
    sent = [(10, type(start)((name, own + by) for name, own in start.items())) for by in (0.1, 0.1, 0.1, 0.1, 50.0)]
    sent[1] = (10, None)
    _, indices = average(server, sent)
    assert list(server.dropped) == ["silo_1"]
    assert list(server.outliers) == ["silo_4"]
    assert indices == [0, 2, 3, 4]


def test_the_servers_optimizer_steps_towards_what_is_left(tmp_path):
    updates = [(10, update(1)), (10, update(1)), (10, update(1e6))]
    plain, stepped = (
        aggregator(robust_aggregation="median"),
        aggregator(robust_aggregation="median", server_optimizer="sgd", server_lr=0.5),
    )
    start, median = stepped.get_model_params(), average(plain, updates)[0]
    half = average(stepped, updates)[0]
    for name, own in half.items():
        assert torch.allclose(own, (start[name] + median[name]) / 2, atol=1e-6)


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_one_of_three_silos_that_sends_a_million_times_its_update_does_no_harm(
    workshop, fedml_of_the_session, scaled, codec
):
    few = {"fedclip_args__codec": codec, "train_args__comm_round": 4}
    honest = workshop.run_here(workshop.recipe(f"robust_honest_{codec}", **few))
    scaled({"photo": 1e6})
    ends = {}
    for rule in ("none", "norm_bound", "median"):
        recipe = workshop.recipe(f"robust_{rule}_{codec}", **few, fedclip_args__robust_aggregation=rule)
        ends[rule] = workshop.run_here(recipe)
    last = {rule: end.lines[-1].test for rule, end in ends.items()}
    assert last["none"] < honest.lines[-1].test - 0.3
    assert last["norm_bound"] > honest.lines[-1].test - 0.05
    assert last["median"] > honest.lines[-1].test - 0.05
    bounded = ends["norm_bound"]
    assert all(list(line.outliers) == ["photo"] for line in bounded.lines[1:])
    assert all("outliers: photo" in line for line in bounded.rounds)
    assert all(line.outliers == {} for line in ends["median"].lines + honest.lines)
    page = run_page(load_recipe(workshop.place / f"robust_norm_bound_{codec}.yaml"), bounded.folder)
    notes = " ".join(note for section in page.sections for note in section.notes)
    assert "robust aggregation clipped or left out: photo of rounds 1 to 4" in notes


@pytest.mark.parametrize("optimizer", ["FedAvg", "FedAvg_seq"])
def test_clients_of_a_simulation_are_bounded_where_the_recipe_asks_for_it(workshop, tmp_path, scaled, optimizer):
    scaled({"photo_2": 1e3})

    def simulate(name, **changes):
        own = {"train_args__federated_optimizer": optimizer, "train_args__client_num_per_round": 12}
        recipe = load_recipe(workshop.recipe(f"bounded_{name}_{optimizer}", **CLIENTS | own | changes))
        folder = RunFolder(tmp_path / name)
        run_job_here(recipe, folder, resume=False, progress=False, observer=_Progress(3, shown=False))
        return folder.rounds()

    bounded = simulate("asked", fedclip_args__robust_aggregation="norm_bound")
    assert [list(line.outliers) for line in bounded[1:]] == [["photo_2"]] * 3
    unasked = simulate("unasked")
    assert all(line.outliers == {} for line in unasked)
    assert bounded[-1].test > unasked[-1].test + 0.1


def test_what_fedml_attacks_with_is_bounded_too(workshop, fedml_of_the_session):
    attack = {"enable_attack": True, "attack_type": "byzantine", "attack_mode": "random", "byzantine_client_num": 1}
    recipe = workshop.recipe("robust_attacked", **{f"attack_args__{key}": value for key, value in attack.items()})
    lines = workshop.run_here(recipe).lines[1:]
    assert all(len(line.outliers) == 1 for line in lines)
    assert all(line.dropped == {} for line in lines)


def test_a_simulation_of_fedmls_own_calls_no_rule(workshop):
    recipe = workshop.recipe("plain_robust", **CLIENTS, fedclip_args__robust_aggregation="median")
    with pytest.raises(FedClipError, match="robust_aggregation = median: FedML's simulator sums updates and calls no"):
        require_plain(load_recipe(recipe))
