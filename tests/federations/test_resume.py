"""A rank is killed in the middle of a round; the resumed run ends as if nothing had happened."""

import re

import pytest

from tests.support.workshop import LAUNCH, results


@pytest.fixture(scope="module")
def killed(workshop, happy_recipe, happy):
    """Return the run whose silo cartoon was killed (SIGKILL) while it trained in round 3."""
    outcome = workshop.sabotage(happy_recipe, "kill,round=3", run=workshop.place / "runs" / "killed")
    return outcome


@pytest.fixture(scope="module")
def resumed(workshop, happy_recipe, killed):
    """Return the run continued, after a write that the crash tore in two and one that it left behind."""
    with killed.folder.metrics.open("a") as stream:
        stream.write('{"round": 2, "silos": {"art_pai')
    left = killed.folder.adapters / ".round_0002.99.tmp"
    left.mkdir()
    (left / "adapter.json").write_text("{")
    return workshop.run(happy_recipe, "--resume", run=killed.folder.path)


def test_a_killed_rank_ends_the_job_and_says_how_to_go_on(killed):
    assert killed.code == 137
    assert "signal 9" in killed.err
    assert "is complete and safe" in killed.err
    assert "continue with --resume" in killed.err
    assert [line.round for line in killed.lines] == [0, 1], "silos report on a round with their next update"


def test_the_resumed_run_ends_with_the_same_bytes(happy, resumed):
    assert resumed.code == 0, resumed.err
    assert "continued after round 1" in resumed.out
    assert [line.split()[1] for line in resumed.rounds] == ["2/3", "3/3"]
    for name in ("final", "best"):
        assert resumed.adapter_bytes(name) == happy.adapter_bytes(name)
    assert results(resumed.lines) == results(happy.lines)
    assert not list(resumed.folder.adapters.glob(".*"))


def test_a_finished_run_has_nothing_to_train(workshop, happy_recipe, happy, resumed):
    outcome = workshop.run(happy_recipe, "--resume", run=resumed.folder.path, program=LAUNCH)
    assert outcome.code == 0, outcome.err
    assert re.match(r"\$ \S+mpirun -np 4 .* --resume --no-progress\n", outcome.out)
    assert "has all 3 rounds already: nothing to train" in outcome.out
    assert results(outcome.lines) == results(happy.lines)


def test_a_fresh_run_into_a_used_folder_is_refused(workshop, happy_recipe, happy):
    before = happy.folder.metrics.read_bytes()
    outcome = workshop.run(happy_recipe, run=happy.folder.path)
    assert outcome.code == 2
    assert "already holds a run of 3 rounds: add --resume" in outcome.err
    assert outcome.err.count("fedclip: ") == 1
    assert happy.folder.metrics.read_bytes() == before
