"""Codecs and server optimisers: bytes, accuracy, and a run under mpirun that is killed and taken up again."""

import pytest

from tests.support.workshop import results

INT8 = {"fedclip_args__codec": "int8"}
INT8_ADAM = INT8 | {"fedclip_args__server_optimizer": "adam", "fedclip_args__server_lr": 0.01}


@pytest.fixture(scope="module")
def int8(workshop, happy, fedml_of_the_session):
    """Return a run of int8 both ways, like the happy one otherwise."""
    return workshop.run_here(workshop.recipe("int8", **INT8))


@pytest.fixture(scope="module")
def adam_recipe(workshop):
    return workshop.recipe("int8_adam", **INT8_ADAM)


def test_int8_sends_a_quarter_of_the_bytes_after_the_first_adapter(happy, int8):
    for way, rounds in (("bytes_up", int8.lines[1:]), ("bytes_down", int8.lines[2:])):
        for line in rounds:
            assert 3.5 < getattr(happy.lines[line.round], way) / getattr(line, way) < 4
    assert int8.lines[1].bytes_down == pytest.approx(happy.lines[1].bytes_down, rel=0.01)


def test_int8_costs_next_to_no_accuracy(happy, int8):
    for exact, lossy in zip(happy.lines, int8.lines, strict=True):
        for part in ("validation", "test", "target"):
            assert getattr(lossy, part) == pytest.approx(getattr(exact, part), abs=0.02)


def test_a_killed_run_with_int8_and_adam_ends_with_the_same_bytes(workshop, adam_recipe, int8):
    straight = workshop.run_here(adam_recipe)
    torn = workshop.place / "runs" / "int8_adam_torn"  # under mpirun, the other in one process
    killed = workshop.sabotage(adam_recipe, "kill,round=3", run=torn)
    assert [line.round for line in killed.lines] == [0, 1]
    resumed = workshop.run(adam_recipe, "--resume", run=torn)
    assert resumed.code == 0, resumed.err
    assert results(resumed.lines) == results(straight.lines)
    for name in ("final", "best"):
        assert resumed.adapter_bytes(name) == straight.adapter_bytes(name)
    remembered = remembrances(straight.folder.path)
    assert len(remembered) == 4
    assert remembrances(torn) == remembered


def remembrances(run):
    """Return what server and silos remember of the last round."""
    files = [*run.glob("state/round_0003/*.safetensors"), *run.glob("personal/*/state/round_0003/*.safetensors")]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}
