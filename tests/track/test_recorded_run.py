"""A run folder is read by its published schema; what is damaged is refused with the line."""

import fcntl

import pytest

from fedclip_track.recorded_run import RecordedRun, TrackError
from tests.track.run_folders import SILOS, append, line, write_run


def test_a_run_gives_its_recipe_its_header_and_its_rounds(tmp_path):
    run = RecordedRun(write_run(tmp_path / "run"))
    assert run.recipe()["train_args.learning_rate"] == 5e-5
    assert run.recipe()["fedclip_args.domains"] == ["art", "photo"]
    tags = run.tags()
    assert (tags["recipe_digest"], tags["seed"], tags["version.torch"]) == ("ab" * 32, "0", "2.15.0")
    first, second, *_ = rounds = run.rounds()
    assert [one.number for one in rounds] == [0, 1, 2, 3]
    assert first.metrics["zero_shot_test/süd+1"] == 0.45 and "loss_mean" not in first.metrics
    assert second.metrics["loss_mean"] == 1.9 and second.metrics["bytes_up"] == 1000
    assert "target" not in second.metrics and second.metrics["seconds/round"] == 0.2
    assert all(second.metrics[f"validation/{silo}"] == 0.51 for silo in SILOS)
    assert run.is_finished(4) and not run.is_finished(3) and not run.has_job()
    assert [place for _, place in run.artefacts()] == ["", "", "adapters/best", "adapters/final"]


def test_a_line_that_is_still_being_written_is_left_out(tmp_path):
    run = RecordedRun(write_run(tmp_path / "run", done=1))
    whole = line(2)
    append(run.path, whole[:40])
    assert len(run.rounds()) == 2
    append(run.path, whole[40:])
    assert len(run.rounds()) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"round": 2,\n', "line 3 is not JSON"),
        (line(5), "line 3 is round 5 where round 2 belongs"),
        ("[]\n", "line 3 is round no object"),
        (line(2, silos={}), "line 3 is damaged"),
        (line(2, validation="high"), "validation_mean is 'high'"),
        (line(2, seconds={"round": float("nan")}), "seconds/round is nan"),
        ('{"round": 2}\n', "KeyError: 'validation'"),
        (line(2, silos={"north": 3}), "line 3 is damaged"),
    ],
)
def test_a_damaged_line_is_refused(tmp_path, text, told):
    run = RecordedRun(write_run(tmp_path / "run", done=1))
    append(run.path, text)
    with pytest.raises(TrackError, match=r"restore the file") as refused:
        run.rounds()
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("recipe.yaml", None, "holds no recipe.yaml"),
        ("recipe.yaml", "a: [", "is not YAML"),
        ("recipe.yaml", "- a", "is no recipe"),
        ("recipe.yaml", "a: 1", "is no recipe"),
    ],
)
def test_a_recipe_that_is_none_is_refused(tmp_path, name, text, told):
    run = RecordedRun(write_run(tmp_path / "run"))
    (run.path / name).unlink()
    if text is not None:
        (run.path / name).write_text(text)
    with pytest.raises(TrackError, match=told):
        run.recipe()


def test_a_recipe_without_a_digest_is_no_runs(tmp_path):
    run = RecordedRun(write_run(tmp_path / "run"))
    (run.path / "recipe.yaml").write_text("train_args: {comm_round: 3}\n")
    with pytest.raises(TrackError, match="no '# digest:' line"):
        run.tags()


def test_a_file_is_no_run_folder(tmp_path):
    with pytest.raises(TrackError, match="is no folder: give the folder of a run"):
        RecordedRun(tmp_path / "missing")


def test_a_held_lock_is_a_job(tmp_path):
    run = RecordedRun(write_run(tmp_path / "run"))
    with (run.path / ".lock").open("w") as lock:
        assert not run.has_job()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run.has_job() and not run.is_finished(4)
    assert not run.has_job()
