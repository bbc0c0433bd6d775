"""A federation that goes wrong, each fault provoked under the real mpirun: who, where, why, and what is safe."""

import pytest

from fedclip_plugin.runs import load_adapter
from tests.support.workshop import OWN_SILOS, TWO_SILOS

pytestmark = pytest.mark.usefixtures("happy")  # which has made the features

START_SECONDS = 100
"""What a start takes at most on a busy machine."""


def test_an_exception_in_a_silo_ends_the_job(workshop):
    outcome = workshop.sabotage(workshop.recipe("failure_raise", **TWO_SILOS), "raise")
    assert outcome.code == 1
    assert "silo cartoon (rank 2), round 2" in outcome.err
    assert "Traceback" in outcome.err
    assert "ValueError: the silo's disk went away" in outcome.err
    assert [line.round for line in outcome.lines] in ([0], [0, 1])
    assert load_adapter(outcome.folder.round_folder(1)).round == 1


def test_a_silo_that_freezes_is_named_within_the_timeout_and_no_other(workshop):
    """It has answered, and then takes nothing more: the server's next message to it stays unread."""
    recipe = workshop.recipe("failure_freeze", **TWO_SILOS, fedclip_args__round_timeout=4.0)
    outcome = workshop.sabotage(recipe, "freeze")
    assert outcome.code == 1
    assert "server (rank 0), round 3: no answer from cartoon within 4 s" in outcome.err
    assert "run again with --resume" in outcome.err
    assert outcome.seconds < 4 + START_SECONDS


def test_a_silo_that_freezes_when_all_is_done_is_ended_and_the_job_has_not_failed(workshop):
    outcome = workshop.sabotage(workshop.recipe("failure_stay", **TWO_SILOS), "stay")
    assert "the job ends without another rank, which does not come to its end; all results are saved" in outcome.out
    assert "Errorcode: 0" in outcome.err, "the launcher ends with 0 then"
    assert (outcome.folder.adapters / "final").exists()
    assert outcome.lines[-1].round == 3
    assert outcome.seconds < START_SECONDS


def test_everything_wrong_with_the_images_is_said_at_once(workshop, own_images):
    root = own_images("wrong_images")
    (root / "silo_a").rename(root / "elsewhere")
    for image in (root / "silo_b").rglob("*.png"):
        image.unlink()
    changes = TWO_SILOS | OWN_SILOS | {"fedclip_args__silos": ["silo_a", "silo_b"]}
    outcome = workshop.run(workshop.recipe("wrong_images", **changes, fedclip_args__data_root=str(root)))
    assert outcome.code == 2
    assert "2 of 3 ranks cannot start" in outcome.err
    assert "no folder 'silo_a'" in outcome.err
    assert "silo_b" in outcome.err.split("no folder 'silo_a'")[1]
    assert outcome.err.count("cannot start") == 1
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("ranks", "words", "told"),
    [
        (3, (), ["mpirun started 3 ranks", "it takes 4", "fedclip launch"]),
        (4, ("--set", "train_args.epochs=no", "--set", "train_args.comm_rounds=3"), ["epochs", "comm_rounds"]),
    ],
)
def test_a_wrong_start_is_said_once_and_quickly(workshop, ranks, words, told):
    outcome = workshop.run(workshop.recipe("wrong_start"), *words, ranks=ranks)
    assert outcome.code == 2
    assert outcome.err.count("fedclip: ") == 1
    for words in told:
        assert words in outcome.err
    assert outcome.seconds < 20
    assert not outcome.folder.path.exists()
