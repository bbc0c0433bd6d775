"""A federation that goes wrong, each fault provoked under the real mpirun: who, where, why, and what is safe."""

import pytest

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.runs import load_adapter
from tests.support.workshop import OWN_SILOS

START_SECONDS = 100
"""What a start takes at most on a busy machine."""


def rounds_done(outcome):
    return [line.round for line in outcome.lines]


@pytest.mark.parametrize(
    ("deed", "reason"),
    [("raise", "ValueError: the silo's disk went away"), ("exit", "SystemExit: 3")],
)
def test_an_exception_in_a_silo_ends_the_job(workshop, deed, reason):
    outcome = workshop.sabotage(workshop.recipe(f"failure_{deed}"), deed)
    assert outcome.code == 1
    assert "silo cartoon (rank 2), round 2" in outcome.err
    assert "Traceback" in outcome.err
    assert reason in outcome.err
    assert rounds_done(outcome) in ([0], [0, 1])
    assert load_adapter(outcome.folder.round_folder(1)).round == 1


def test_an_exception_in_the_average_ends_the_job(workshop):
    outcome = workshop.sabotage(workshop.recipe("failure_average"), "average,rank=0")
    assert outcome.code == 1
    assert "server (rank 0), round 2" in outcome.err
    assert "ArithmeticError: the average went wrong" in outcome.err


def test_a_silo_that_freezes_is_named_within_the_timeout_and_no_other(workshop):
    """It has answered, and then takes nothing more: the server's next message to it stays unread."""
    recipe = workshop.recipe("failure_freeze", fedclip_args__round_timeout=4.0)
    outcome = workshop.sabotage(recipe, "freeze,rank=3")
    assert outcome.code == 1
    assert "server (rank 0), round 3: no answer from photo within 4 s" in outcome.err
    assert "run again with --resume" in outcome.err
    assert outcome.seconds < 4 + START_SECONDS


def test_a_server_that_hangs_is_noticed_by_the_silos(workshop):
    recipe = workshop.recipe("failure_hang_server", fedclip_args__round_timeout=4.0)
    outcome = workshop.sabotage(recipe, "hang_average,rank=0")
    assert outcome.code == 1
    assert "round 2: no word from the server for 6 s (round_timeout)" in outcome.err
    assert outcome.seconds < 6 + START_SECONDS


def test_unusable_updates_are_dropped_while_enough_silos_remain(workshop):
    recipe = workshop.recipe("failure_dropped", fedclip_args__min_silos=2)
    outcome = workshop.sabotage(recipe, "nan,rank=2,round=1+shape,rank=3,round=2")
    assert outcome.code == 0, outcome.err
    assert "round 1: the update of cartoon is dropped: hidden.weight holds NaN or infinite values" in outcome.err
    assert "round 2: the update of photo is dropped: hidden.weight is float32 [3, 128], expected" in outcome.err
    first, second, third = outcome.lines[1:]
    assert list(first.dropped) == ["cartoon"]
    assert list(second.dropped) == ["photo"]
    assert third.dropped == {}
    assert "2 of 3 silos" in outcome.rounds[0]
    assert "dropped: cartoon" in outcome.rounds[0]
    assert "3 of 3 silos" in outcome.rounds[2]
    assert load_adapter(outcome.folder.adapters / "final").round == 3


def test_too_few_usable_updates_stop_the_run_with_the_last_adapter_safe(workshop):
    outcome = workshop.sabotage(workshop.recipe("failure_too_few"), "nan")
    assert outcome.code == 1
    assert "round 2: 2 usable updates, min_silos is 3 (cartoon: hidden.weight holds NaN" in outcome.err
    assert "Traceback" not in outcome.err
    assert load_adapter(outcome.folder.round_folder(1)).round == 1
    assert load_adapter(outcome.folder.adapters / "best").round <= 1


def test_everything_wrong_with_the_images_is_said_at_once(workshop, own_images):
    root = own_images("wrong_images")
    (root / "silo_b").rename(root / "elsewhere")
    for image in (root / "silo_c").rglob("*.png"):
        image.unlink()
    outcome = workshop.run(workshop.recipe("wrong_images", **OWN_SILOS, fedclip_args__data_root=str(root)))
    assert outcome.code == 2
    assert "2 of 4 ranks cannot start" in outcome.err
    assert "no folder 'silo_b'" in outcome.err
    assert "silo_c" in outcome.err.split("no folder 'silo_b'")[1]
    assert outcome.err.count("cannot start") == 1
    assert "Traceback" not in outcome.err


def test_class_folders_that_differ_are_named(workshop, own_images, fedml_of_the_session):
    root = own_images("wrong_classes")
    (root / "silo_b" / "dog").rename(root / "silo_b" / "doggo")
    recipe = workshop.recipe("wrong_classes", **OWN_SILOS, fedclip_args__data_root=str(root))
    with pytest.raises(FedClipError, match="silo_a lacks doggo; silo_b lacks dog; silo_c lacks doggo"):
        workshop.run_here(recipe)


def test_an_unreadable_image_is_refused_by_name(workshop, own_images):
    root = own_images("unreadable")
    broken = next((root / "silo_b" / "dog").glob("*.png"))
    broken.write_bytes(broken.read_bytes()[:100])
    outcome = workshop.run(workshop.recipe("unreadable", **OWN_SILOS, fedclip_args__data_root=str(root)))
    assert outcome.code == 2
    assert "1 of 4 ranks cannot start" in outcome.err
    assert str(broken) in outcome.err
    assert "fedclip_args.on_bad_image" in outcome.err


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
