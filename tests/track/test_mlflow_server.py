"""A run folder in a real MLflow server on this machine, read back through MLflow's own client: ``make test-track``."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from fedclip_track.track_command import main
from tests.track.installed import require
from tests.track.run_folders import append, line, write_run

_PATIENCE = 180
"""Seconds for the server to come up, on a busy machine."""


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    require("mlflow")
    place = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--backend-store-uri", f"sqlite:///{place}/store.db", "--artifacts-destination", str(place / "artefacts")]
    words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (place / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=log,
            stderr=log,
            cwd=place,
            env=os.environ | quiet,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _await(address, server, place / "log")
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def client(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs_of(client, experiment):
    """Return the runs of an experiment."""
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def test_a_run_is_there_with_its_recipe_rounds_and_files_and_only_once(uri, client, tmp_path):
    run = write_run(tmp_path / "run")
    words = [str(run), "--to", "mlflow", "--tracking-uri", uri, "--experiment", "once"]
    assert [main(words), main(words)] == [0, 0]
    (found,) = runs_of(client, "once")
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    assert found.data.params["train_args.learning_rate"] == "5e-05"
    assert found.data.params["fedclip_args.domains"] == '["art", "photo"]'
    assert found.data.tags["fedclip.recipe_digest"] == "ab" * 32
    assert found.data.tags["fedclip.version.torch"] == "2.15.0"
    history = client.get_metric_history(found.info.run_id, "validation_mean")
    assert [(one.step, round(one.value, 2)) for one in history] == [(0, 0.5), (1, 0.51), (2, 0.52), (3, 0.53)]
    assert [one.step for one in client.get_metric_history(found.info.run_id, "target")] == [0, 2, 3]
    assert found.data.metrics["bytes_up"] == 3000
    # two silos whose names MLflow does not take, and which would be one in what it takes
    assert {"loss/north clinic", "loss/süd_1", "loss/süd_1_2"} <= set(found.data.metrics)
    assert {one.path for one in client.list_artifacts(found.info.run_id)} == {
        "recipe.yaml",
        "metrics.jsonl",
        "adapters",
    }
    place = client.download_artifacts(found.info.run_id, "adapters/best", str(tmp_path))
    assert sorted(path.name for path in Path(place).iterdir()) == ["adapter.json", "adapter.safetensors"]


def test_rounds_come_while_the_run_goes_on(uri, client, tmp_path):
    run = write_run(tmp_path / "run", rounds=3, done=0)
    words = [str(run), "--to", "mlflow", "--tracking-uri", uri, "--experiment", "followed", "--follow"]
    code = []
    follower = threading.Thread(target=lambda: code.append(main(words)), daemon=True)
    follower.start()
    seen = []
    for number in (1, 2, 3):
        append(run, line(number)[:30])
        append(run, line(number)[30:])
        for _ in range(10 * _PATIENCE):
            experiment = client.get_experiment_by_name("followed")
            found = client.search_runs([experiment.experiment_id]) if experiment else []
            seen += [one.data.metrics.get("best_round") for one in found]
            if seen and seen[-1] == number:
                break
            time.sleep(0.1)
        assert seen[-1] == number
    follower.join(_PATIENCE)
    assert code == [0] and [one.info.status for one in runs_of(client, "followed")] == ["FINISHED"]


def test_a_resumed_run_with_more_rounds_goes_on_in_the_same_run(uri, client, tmp_path):
    run = write_run(tmp_path / "run", rounds=1)
    words = [str(run), "--to", "mlflow", "--tracking-uri", uri, "--experiment", "resumed"]
    assert main(words) == 0
    write_run(run, rounds=2)
    assert main(words) == 0
    (found,) = runs_of(client, "resumed")
    assert found.data.params["train_args.comm_round"] == "1"
    assert found.data.tags["resumed_with.train_args.comm_round"] == "2"
    assert [one.step for one in client.get_metric_history(found.info.run_id, "validation_mean")] == [0, 1, 2]


def test_a_round_that_was_sent_and_not_noted_is_not_sent_twice(uri, client, tmp_path):
    run = write_run(tmp_path / "run", rounds=2)
    words = [str(run), "--to", "mlflow", "--tracking-uri", uri, "--experiment", "killed"]
    assert main(words) == 0
    notes = run / "track.json"
    notes.write_text(notes.read_text().replace('"rounds": 3', '"rounds": 2'))
    assert main(words) == 0
    (found,) = runs_of(client, "killed")
    assert [one.step for one in client.get_metric_history(found.info.run_id, "validation_mean")] == [0, 1, 2]


def test_a_run_that_the_server_has_deleted_is_named(uri, client, tmp_path, capsys):
    run = write_run(tmp_path / "run")
    words = [str(run), "--to", "mlflow", "--tracking-uri", uri, "--experiment", "deleted"]
    assert main(words) == 0
    client.delete_run(runs_of(client, "deleted")[0].info.run_id)
    assert main(words) == 2
    assert "has deleted run" in capsys.readouterr().err
    notes = run / "track.json"
    notes.write_text(notes.read_text().replace('"id": "', '"id": "0'))
    assert main(words) == 2
    assert "remove track.json to log a new one" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_named(tmp_path, capsys, monkeypatch):
    require("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = write_run(tmp_path / "run")
    assert main([str(run), "--to", "mlflow", "--tracking-uri", "http://127.0.0.1:9"]) == 2
    assert "MLflow at http://127.0.0.1:9 does not answer, or refuses:" in capsys.readouterr().err


def _await(address, server, log):
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(f"{address}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"mlflow server did not come up: {log.read_text()[-2000:]}")
