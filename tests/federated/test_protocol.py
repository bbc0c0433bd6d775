"""Server and silos talk in one process: any order of messages, sampled silos, late and unasked answers."""

from functools import partial

import numpy as np
import pytest
import torch

from fedclip_plugin.federated.roles.trainer import FedClipTrainer, _pull
from fedclip_plugin.methods import create_adapter
from fedclip_plugin.runs import load_adapter
from tests.support.in_process_federation import CPU, SILOS, WIDTH, Federation, arguments, settings_of, silo_features
from tests.support.workshop import frozen, results

pytestmark = pytest.mark.usefixtures("fresh_fedml")


KINDS = {
    "of like rounds": {},
    "that interpolates in its last round": {
        "method": "linear_probe",
        "wise": (0.25, 0.5, 0.75, 1.0),
        "learning_rate": 0.05,
    },
    "that starts from ridge": {
        "method": "linear_probe",
        "start": "ridge",
        "learning_rate": 0.05,
        "target": silo_features(7).test,
    },
}


@pytest.fixture
def straight(tmp_path):
    return Federation(tmp_path / "straight").run()


@pytest.fixture(params=KINDS)
def whole(request, tmp_path):
    """What makes a federation of a kind, and one that was never stopped; messages came in order."""
    make = partial(Federation, **KINDS[request.param])
    return make, make(tmp_path / "whole").run()


def weights(federation, name="final"):
    return (federation.folder.adapters / name / "adapter.safetensors").read_bytes()


def test_a_federation_ends_with_a_line_a_round(straight):
    assert straight.wire.over == {0, 1, 2, 3}
    assert [line.round for line in straight.lines] == [0, 1, 2, 3, 4]
    assert all(list(line.answered) == list(SILOS) for line in straight.lines[1:])


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_messages_changes_nothing(whole, tmp_path, seed):
    make, straight = whole
    mixed = make(tmp_path / "mixed").run(seed)
    assert weights(mixed) == weights(straight)
    assert weights(mixed, "best") == weights(straight, "best")
    assert results(mixed.lines) == results(straight.lines)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_resumed_after_any_round_ends_the_same(whole, tmp_path, stop):
    make, straight = whole
    first = make(tmp_path / "torn")
    first.run(until=lambda: len(first.lines) > stop)
    done = first.folder.last_complete().round
    assert done < 4
    again = make(tmp_path / "torn", start_round=done, adapter=first.folder.load_round(done)).run()
    assert weights(again) == weights(straight)
    assert weights(again, "best") == weights(straight, "best")
    assert results(again.folder.rounds()) == results(straight.folder.rounds())


def test_the_final_adapter_of_a_shorter_run_stays_until_the_longer_one_ends(straight):
    folder = straight.folder
    longer = Federation(folder.path, start_round=4, adapter=folder.load_round(4), comm_round=10)
    longer.run(until=lambda: len(longer.lines) > 3)
    assert load_adapter(folder.adapters / "final").round == 4
    longer.run()
    assert load_adapter(folder.adapters / "final").round == 10
    numbers = {int(path.name[6:]) for path in folder.adapters.glob("round_*")}
    assert numbers == {8, 9, 10} | {folder.rounds()[-1].best_round}


def test_sampled_silos_train_and_all_report(tmp_path):
    runs = [Federation(tmp_path / f"{seed}", silos_per_round=2).run(seed) for seed in range(6)]
    draws = [np.random.default_rng([0, number, 2]).choice(3, 2, replace=False) for number in range(4)]
    for run in runs:
        assert [line.round for line in run.lines] == [0, 1, 2, 3, 4]
        assert [list(line.answered) for line in run.lines[1:]] == [[SILOS[i] for i in sorted(draw)] for draw in draws]
        for line in run.lines[1:]:
            assert [name for name in SILOS if line.silos[name].train_loss is not None] == list(line.answered)
    assert weights(runs[0]) == weights(runs[1])


def test_rounds_go_on_while_a_silo_that_was_not_drawn_is_late(tmp_path):
    late = next(index for index in range(3) if index not in draw(0) and index not in draw(1))
    run = Federation(tmp_path / "late", silos_per_round=1, comm_round=2)
    run.run(until=lambda: run.server.args.round_idx == 2, held=(late + 1,))
    assert [line.round for line in run.lines] == [], "no line before all have reported"
    assert run.server._watchdog._deadlines.keys() == set(SILOS)
    run.run()
    assert [line.round for line in run.lines] == [0, 1, 2]
    assert not run.server._watchdog._deadlines.keys() & set(SILOS)


def draw(number):
    return np.random.default_rng([0, number, 2]).choice(3, 1, replace=False)


def test_the_history_holds_every_rounds_answers(straight):
    for number, name in enumerate(SILOS, 1):
        history = straight.histories[number][name]
        assert sorted(history.rounds) == [0, 1, 2, 3, 4]
        assert history.positions.tolist() == list(range(30, 40))
        for line in straight.lines:
            (answers,) = history.rounds[line.round]
            assert answers.score.accuracy == line.silos[name].test
    assert straight.histories[0] == {}, "there is no target"


def test_without_a_federation_every_silo_trains_as_if_it_were_alone(tmp_path):
    target = silo_features(7).test
    run = Federation(tmp_path / "local", target=target, averaged=False).run()
    alone = run.histories[0]["target"].rounds[4]
    assert len(alone) == 3
    assert run.lines[4].target == pytest.approx(sum(own.score.accuracy for own in alone) / 3)
    for number, manager in enumerate(run.silos, 1):
        trainer = manager._driver.silo_trainer
        args = arguments(None, number)
        model, own = create_adapter("fedclip", frozen(WIDTH), 0), settings_of()
        lone = FedClipTrainer(model, args, own, trainer.task, trainer.silo, run.folder)
        lone.set_id(number - 1)
        for round_idx in range(4):
            args.round_idx = round_idx
            lone.train(silo_features(number), CPU, args)
        kept = load_adapter(run.folder.path / "personal" / trainer.silo / "adapter")
        assert all(np.array_equal(kept.tensors[name], tensor) for name, tensor in lone.get_model_params().items())
        assert torch.equal(alone[number - 1].predicted, trainer.task.answer(lone.model, target).predicted)


def test_each_silo_keeps_an_adapter_fine_tuned_from_the_last_one(straight, tmp_path):
    run = Federation(tmp_path / "personal", personal_epochs=2).run()
    assert weights(run) == weights(straight), "the federation itself is the same"
    assert not any(silo.personal for silo in run.lines[3].silos.values())
    final = run.folder.load_round(4)
    for manager in run.silos:
        trainer = manager._driver.silo_trainer
        kept = load_adapter(run.folder.path / "personal" / trainer.silo / "adapter")
        assert not np.array_equal(kept.tensors["gate.bias"], final.tensors["gate.bias"])
        score = trainer.task.score(trainer.model, manager._driver.splits.test)
        assert run.lines[4].silos[trainer.silo].personal["test"] == score.accuracy == kept.metrics["test"]


def test_the_proximal_term_has_the_gradient_of_its_equation():
    """One step of plain gradient descent shows it: w - w0 shrinks by the factor that FedProx's equation gives."""
    parameter, anchor = torch.nn.Parameter(torch.tensor([3.0, -1.0])), torch.tensor([1.0, 1.0])
    (0.5 * 0.7 * (parameter - anchor).square().sum()).backward()
    expected, parameter.grad = parameter.grad.clone(), torch.zeros(2)
    _pull([parameter], [anchor], 0.7)
    torch.testing.assert_close(parameter.grad, expected)


def test_a_strong_proximal_term_keeps_silos_close_to_the_global_adapter(straight, tmp_path):
    first = straight.folder.load_round(4).tensors
    held = Federation(tmp_path / "prox", proximal_mu=100.0).run().folder.load_round(4).tensors
    start = create_adapter("fedclip", frozen(WIDTH), 0).state_dict()

    def moved(tensors):
        return sum(float(np.square(tensors[name] - start[name].numpy()).sum()) for name in tensors)

    assert moved(held) < 0.5 * moved(first)
