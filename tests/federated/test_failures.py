"""A silo or the server fails while a federation runs: who, where, why, and what is safe."""

import threading

import pytest

from fedclip_plugin.errors import FedClipError, FederationError
from fedclip_plugin.federated import stop
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.stop import WAITED_IN_VAIN
from fedclip_plugin.runs import RunFolder, load_adapter
from tests.support.in_process_federation import SILOS, Federation
from tests.support.workshop import OWN_SILOS


@pytest.fixture
def spoil(monkeypatch):
    """Return a function that lets updates be wrong: by silo and round, what becomes of the update."""

    def of(deeds):
        original = FedClipTrainer.get_model_params

        def spoiled(trainer):
            update, deed = original(trainer), deeds.get((trainer.silo, trainer.args.round_idx + 1))
            return type(update)((name, deed(tensor)) for name, tensor in update.items()) if deed else update

        monkeypatch.setattr(FedClipTrainer, "get_model_params", spoiled)

    return of


def nan(tensor):
    return tensor * float("nan")


def cut(tensor):
    return tensor[:3]


def test_unusable_updates_are_dropped_while_enough_silos_remain(workshop, fedml_of_the_session, fresh_fedml, spoil):
    spoil({("cartoon", 1): nan, ("photo", 2): cut})
    outcome = workshop.run_here(workshop.recipe("failure_dropped", fedclip_args__min_silos=2))
    log = outcome.log(0)
    assert "round 1: the update of cartoon is dropped: hidden.weight holds NaN or infinite values" in log
    assert "round 2: the update of photo is dropped: hidden.weight is float32 [3, 128], expected" in log
    first, second, third = outcome.lines[1:]
    assert list(first.dropped) == ["cartoon"]
    assert list(second.dropped) == ["photo"]
    assert third.dropped == {}
    assert "2 of 3 silos" in outcome.rounds[0]
    assert "dropped: cartoon" in outcome.rounds[0]
    assert "3 of 3 silos" in outcome.rounds[2]
    assert load_adapter(outcome.folder.adapters / "final").round == 3


def test_too_few_usable_updates_stop_the_run_with_the_last_adapter_safe(
    workshop, fedml_of_the_session, fresh_fedml, spoil
):
    spoil({("cartoon", 2): nan})
    recipe = workshop.recipe("failure_too_few")
    told = r"round 2: 2 usable updates, min_silos is 3 \(cartoon: hidden.weight holds NaN"
    with pytest.raises(FederationError, match=told):
        workshop.run_here(recipe)
    folder = RunFolder(workshop.place / "runs" / "failure_too_few")
    assert load_adapter(folder.round_folder(1)).round == 1
    assert load_adapter(folder.adapters / "best").round <= 1


def test_class_folders_that_differ_are_named(workshop, own_images, fedml_of_the_session, fresh_fedml):
    root = own_images("wrong_classes")
    (root / "silo_b" / "dog").rename(root / "silo_b" / "doggo")
    recipe = workshop.recipe("wrong_classes", **OWN_SILOS, fedclip_args__data_root=str(root))
    with pytest.raises(FedClipError, match="silo_a lacks doggo; silo_b lacks dog; silo_c lacks doggo"):
        workshop.run_here(recipe)


def test_an_unreadable_image_is_refused_by_name(workshop, own_images, fedml_of_the_session, fresh_fedml):
    root = own_images("unreadable", most=4)
    broken = next((root / "silo_b" / "dog").glob("*.png"))
    broken.write_bytes(broken.read_bytes()[:100])
    recipe = workshop.recipe("unreadable", **OWN_SILOS, fedclip_args__data_root=str(root))
    with pytest.raises(FedClipError, match=r"fedclip_args\.on_bad_image") as caught:
        workshop.run_here(recipe)
    assert str(broken) in str(caught.value)


@pytest.fixture
def ended(monkeypatch):
    """Return a semaphore that counts the ends of a process, each of which only ends its thread."""
    ends = threading.Semaphore(0)

    def leave(code):
        ends.release()
        raise SystemExit(code)

    monkeypatch.setattr(stop.os, "_exit", leave)
    return ends


def run_to_the_end(folder, **settings):
    """Run until the end of the process; return the codes that MPI would end all ranks with."""
    run, codes = Federation(folder, **settings), []
    run.wire.Abort = codes.append
    with pytest.raises(SystemExit):
        run.run()
    return codes


@pytest.mark.usefixtures("ended", "fresh_fedml")
def test_an_exception_in_the_average_ends_the_job(tmp_path, monkeypatch, capfd):
    def fail(aggregator, updates):
        if aggregator.args.round_idx == 1:
            raise ArithmeticError("the average went wrong")
        return original(aggregator, updates)

    original = FedClipAggregator.on_before_aggregation
    monkeypatch.setattr(FedClipAggregator, "on_before_aggregation", fail)
    assert run_to_the_end(tmp_path / "run") == [1]
    told = capfd.readouterr().err
    assert "server (rank 0), round 2" in told
    assert "ArithmeticError: the average went wrong" in told


@pytest.mark.usefixtures("fresh_fedml")
def test_a_server_that_hangs_is_noticed_by_every_silo(tmp_path, monkeypatch, capfd, ended):
    def hang(*_):
        raise SystemExit(all(ended.acquire(timeout=30) for _ in SILOS))

    monkeypatch.setattr(FedClipAggregator, "on_before_aggregation", hang)
    assert run_to_the_end(tmp_path / "run", round_timeout=0.8) == [*[WAITED_IN_VAIN] * 3, 1]
    told = capfd.readouterr().err
    for rank, name in enumerate(SILOS, 1):
        assert f"silo {name} (rank {rank}), round 1: no word from the server for 1 s (round_timeout)" in told
