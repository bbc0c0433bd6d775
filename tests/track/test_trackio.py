"""A run folder in trackio, in a folder of this machine and without a network: ``make test-track``."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fedclip_track.track_command import main
from tests.track.installed import require
from tests.track.run_folders import append, line, write_run


@pytest.fixture
def log(tmp_path):
    """Return a function that logs a run in a process of its own, since trackio reads its folder's name at import."""
    require("trackio")
    place = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}

    def run_command(*words):
        words = [str(Path(sys.executable).with_name("fedclip-track")), *map(str, words)]
        return subprocess.run(words, env=place, capture_output=True, text=True, check=False)

    return run_command


def test_a_run_is_there_with_its_recipe_and_rounds_and_only_once(log, tmp_path):
    run = write_run(tmp_path / "run", rounds=3, done=2)
    first = log(run, "--to", "trackio")
    assert (first.returncode, "3 rounds are in trackio" in first.stdout) == (0, True), first.stderr
    append(run, line(3))
    assert [log(run, "--to", "trackio").returncode for _ in range(2)] == [0, 0]
    with sqlite3.connect(tmp_path / "trackio" / "fedclip.db") as store:
        rows = store.execute("select run_name, step, metrics from metrics order by step").fetchall()
        (config,) = store.execute("select config from configs").fetchone()
    assert [step for _, step, _ in rows] == [0, 1, 2, 3] and len({name for name, _, _ in rows}) == 1
    assert json.loads(rows[3][2])["validation_mean"] == 0.53
    assert json.loads(config)["train_args.comm_round"] == 3
    assert json.loads(config)["fedclip.recipe_digest"] == "ab" * 32
    assert list((tmp_path / "trackio" / "artifacts" / "fedclip").rglob("*"))


def test_a_run_that_trackio_no_longer_has_is_named(log, tmp_path):
    run = write_run(tmp_path / "run")
    assert log(run, "--to", "trackio").returncode == 0
    notes = run / "track.json"
    notes.write_text(notes.read_text().replace('"id": "run-', '"id": "gone-'))
    done = log(run, "--to", "trackio")
    assert done.returncode == 2 and "remove track.json to log a new one" in done.stderr


def test_a_server_that_does_not_answer_is_named(tmp_path, capsys):
    require("trackio")
    run = write_run(tmp_path / "run")
    assert main([str(run), "--to", "trackio", "--tracking-uri", "http://127.0.0.1:9/?write_token=secret"]) == 2
    told = capsys.readouterr().err
    assert "trackio in http://127.0.0.1:9/, project fedclip does not answer" in told and "secret" not in told
