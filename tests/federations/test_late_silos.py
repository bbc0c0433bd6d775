"""Silos that sleep under the real mpirun: the others go on, and the job comes to its end with them or without them."""

import os
import signal
import threading
import time

import pytest

from benchmarks.setup.mpi_jobs import rank_process
from fedclip_plugin.runs import RunFolder

pytestmark = pytest.mark.usefixtures("happy")  # which has made the features

GRACE = {"fedclip_args__round_grace": 1.0, "fedclip_args__min_silos": 2, "train_args__comm_round": 400}
RANK = 3


def asleep(recipe, folder, seconds):
    """Stop a silo's process after the second round, for some seconds, or for ever, in a thread."""

    def _sleep():
        end = time.monotonic() + 150
        while time.monotonic() < end and len(RunFolder(folder).rounds()) < 3:
            time.sleep(0.02)
        process = rank_process(RANK, str(recipe))
        os.kill(process, signal.SIGSTOP)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(process, signal.SIGCONT)

    thread = threading.Thread(target=_sleep)
    thread.start()
    return thread


def test_a_silo_that_sleeps_is_named_and_is_back_when_it_wakes(workshop):
    recipe = workshop.recipe("late_back", **GRACE)
    thread = asleep(recipe, workshop.place / "runs" / "late_back", seconds=3.0)
    outcome = workshop.run(recipe)
    thread.join()
    assert outcome.code == 0
    late = [line.round for line in outcome.lines if "photo" in line.late]
    assert late, "three seconds are longer than a round and its grace"
    assert late == list(range(late[0], late[-1] + 1))
    assert late[-1] < 400, "it does not stay behind"
    assert all("photo" in line.answered for line in outcome.lines[1:] if line.round not in late)
    assert f"photo answers round {late[0]} in round" in outcome.log(0)
    assert outcome.lines[-1].round == 400
    assert set(outcome.lines[-1].tests()) == {"art_painting", "cartoon", "photo"}


def test_a_job_ends_well_without_a_silo_that_sleeps_for_ever(workshop):
    recipe = workshop.recipe("late_gone", **GRACE | {"train_args__comm_round": 20})
    thread = asleep(recipe, workshop.place / "runs" / "late_gone", seconds=None)
    outcome = workshop.run(recipe)
    thread.join()
    assert outcome.code == 0
    assert "the job ends without photo" in outcome.out
    assert "not always there (-): photo;" in outcome.out
    assert outcome.lines[-1].round == 20
    assert outcome.lines[-1].late == ("photo",)
    images = sum(outcome.lines[1].silos[name].images["validation"] for name in ("art_painting", "cartoon"))
    assert f"the adapters are not calibrated: {images} " in outcome.out, "the other silos are asked, and no more"
    assert rank_process(RANK, str(recipe)) is None
