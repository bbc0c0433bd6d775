"""Silos that are left out of a job under mpirun, by hand and where ``--keep-going`` finds that they are gone."""

import pytest

from tests.support.workshop import LAUNCH

GONE = "cartoon"


@pytest.fixture(scope="module")
def recipe(workshop):
    return workshop.recipe("quorum", fedclip_args__min_silos=2, fedclip_args__codec="int8")


def test_a_silo_is_left_out_by_hand_and_all_else_is_as_in_one_process(workshop, recipe, fedml_of_the_session):
    run = workshop.place / "runs" / "by_hand"
    done = workshop.run(recipe, "--without", GONE, run=run, program=LAUNCH)
    assert done.code == 0, done.err
    assert " -np 3 " in done.out and f"without {GONE}: rounds are made by the other 2 of 3 silos" in done.out
    assert {line.without for line in done.lines} == {(GONE,)}
    here = workshop.run_here(recipe, workshop.place / "runs" / "by_hand_here", without=[GONE])
    assert done.adapter_bytes("final") == here.adapter_bytes("final")
    names = {f"rank_{number}.log" for number in (0, 1, 3)}
    assert {log.name for log in (run / "logs").iterdir()} == names, "a silo's files go by its place among all"
