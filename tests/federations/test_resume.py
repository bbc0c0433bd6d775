"""A rank is killed in the middle of a round; the resumed run ends as if nothing had happened.

With a codec and a server optimiser, so that server and silos have something to remember.
"""

import re

import pytest

from tests.support.workshop import LAUNCH, TWO_SILOS, results

INT8_ADAM = {
    "fedclip_args__codec": "int8",
    "fedclip_args__server_optimizer": "adam",
    "fedclip_args__server_lr": 0.01,
}


@pytest.fixture(scope="module")
def recipe(workshop):
    return workshop.recipe("int8_adam", **TWO_SILOS, **INT8_ADAM)


@pytest.fixture(scope="module")
def straight(workshop, recipe, fedml_of_the_session):
    """Return the same run without a break, in one process."""
    return workshop.run_here(recipe)


@pytest.fixture(scope="module")
def killed(workshop, recipe, straight):
    """Return the run whose silo cartoon was killed (SIGKILL) while it trained in round 3."""
    return workshop.sabotage(recipe, "kill,round=3", run=workshop.place / "runs" / "killed")


@pytest.fixture(scope="module")
def resumed(workshop, recipe, killed):
    """Return the run continued, after a write that the crash tore in two and one that it left behind."""
    with killed.folder.metrics.open("a") as stream:
        stream.write('{"round": 2, "silos": {"art_pai')
    left = killed.folder.adapters / ".round_0002.99.tmp"
    left.mkdir()
    (left / "adapter.json").write_text("{")
    return workshop.run(recipe, "--resume", run=killed.folder.path, program=LAUNCH)


def test_a_killed_rank_ends_the_job_and_says_how_to_go_on(killed):
    assert killed.code == 137
    assert "signal 9" in killed.err
    assert "is complete and safe" in killed.err
    assert "continue with --resume" in killed.err
    assert [line.round for line in killed.lines] == [0, 1], "silos report on a round with their next update"


def test_the_resumed_run_ends_with_the_same_bytes(straight, resumed):
    assert resumed.code == 0, resumed.err
    assert re.match(r"\$ \S+mpirun -np 3 .* --resume --no-progress\n", resumed.out)
    assert "continued after round 1" in resumed.out
    assert [line.split()[1] for line in resumed.rounds] == ["2/3", "3/3"]
    for name in ("final", "best"):
        assert resumed.adapter_bytes(name) == straight.adapter_bytes(name)
    assert results(resumed.lines) == results(straight.lines)
    assert not list(resumed.folder.adapters.glob(".*"))


def test_server_and_silos_remember_the_same(straight, resumed):
    remembered = remembrances(straight.folder.path)
    assert len(remembered) == 3
    assert remembrances(resumed.folder.path) == remembered


def remembrances(run):
    """Return what server and silos remember of the last round."""
    files = [*run.glob("state/round_0003/*.safetensors"), *run.glob("personal/*/state/round_0003/*.safetensors")]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


def test_a_fresh_run_into_a_used_folder_is_refused(workshop, recipe, straight):
    before = straight.folder.metrics.read_bytes()
    outcome = workshop.run(recipe, run=straight.folder.path, program=LAUNCH)
    assert outcome.code == 2
    assert "already holds a run of 3 rounds: add --resume" in outcome.err
    assert outcome.err.count("fedclip: ") == 1
    assert straight.folder.metrics.read_bytes() == before
