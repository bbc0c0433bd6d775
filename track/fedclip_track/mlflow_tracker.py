"""MLflow: parameters, metrics by round, tags, and artefacts."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from fedclip_track.recorded_run import RecordedRun, Round, TrackError
from fedclip_track.tracker import GONE, Logged, asking, without_password

_MOST = 100
"""Parameters and tags that a request may hold; of metrics it may hold 1,000."""

_FOREIGN = re.compile(r"[^\w./:\- ]")
_MARK = "validation_mean"
"""A metric of every round, sent with the last of a round's: the rounds that a run holds are counted by it."""

_USUAL = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would report its use to its makers
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # of 7, which take minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class MlflowTracker:
    """A run in an experiment of an MLflow server, or of the store that a URI names.

    Parameters
    ----------
    experiment
        Name of the experiment; it is made where it is missing.
    uri
        Address of the server; None takes ``MLFLOW_TRACKING_URI``, or MLflow's own default.

    Raises
    ------
    TrackError
        When MLflow is not installed, or its server does not answer.
    """

    def __init__(self, experiment: str, uri: str | None = None) -> None:
        for name, value in _USUAL.items():
            os.environ.setdefault(name, value)
        try:
            import mlflow
        except ImportError as error:
            raise TrackError(f"MLflow cannot be imported ({error}): pip install 'fedclip-track[mlflow]'") from error
        uri = uri or mlflow.get_tracking_uri()
        self._server = f"MLflow at {without_password(uri)}"
        self.place = f"{self._server}, experiment {experiment}"
        with asking(self._server):
            self._client = mlflow.MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(experiment)
            self._experiment = found.experiment_id if found else self._client.create_experiment(experiment)
        self._run = ""

    def open(self, run: RecordedRun, known: Logged | None) -> Logged:
        """Begin a run with the recipe as its parameters, or go on with a known one that the server still has."""
        with asking(self._server, *([GONE] if known else [])):
            if known is None:
                self._run = self._client.create_run(self._experiment, run_name=run.path.name).info.run_id
                there: Mapping[str, str] = {}
            else:
                self._run, there = known.id, self._parameters(known.id)
            recipe = {key: _text(value) for key, value in run.recipe().items()}
            tags = {f"fedclip.{name}": value for name, value in run.tags().items()}
            tags["fedclip.run_folder"] = str(run.path)
            # A parameter is set once; what a resumed run was given otherwise, such as more rounds, becomes a tag.
            tags |= {f"resumed_with.{key}": value for key, value in recipe.items() if there.get(key, value) != value}
            self._describe({key: value for key, value in recipe.items() if key not in there}, tags)
            if known is not None:
                self._client.update_run(self._run, status="RUNNING")
            steps = [metric.step for metric in self._client.get_metric_history(self._run, _MARK)]
            return Logged(self._run, max(steps, default=-1) + 1)

    def log(self, round: Round) -> None:
        """Send a round's figures, its number as their step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        named = sorted(_allowed(round.metrics).items(), key=lambda pair: pair[0] == _MARK)
        with asking(self._server):
            for part in _parts(named, 10 * _MOST):
                metrics = [Metric(name, value, now, round.number) for name, value in part]
                self._client.log_batch(self._run, metrics=metrics)

    def keep(self, run: RecordedRun) -> None:
        """Send the run's files as artefacts; those that are there are replaced."""
        with asking(self._server):
            for path, place in run.artefacts():
                send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
                send(self._run, str(path), place or None)

    def close(self, finished: bool) -> None:
        """Mark a finished run; any other stays as running, and goes on when it is logged again."""
        if finished:
            with asking(self._server):
                self._client.set_terminated(self._run)

    def _parameters(self, run: str) -> Mapping[str, str]:
        found = self._client.get_run(run)
        if found.info.lifecycle_stage != "active":
            raise TrackError(
                f"{self._server} has deleted run {run}, which track.json in the run folder names: "
                "restore it there, or remove track.json to log a new one"
            )
        parameters: Mapping[str, str] = found.data.params
        return parameters

    def _describe(self, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        for part in _parts(list(parameters.items()), _MOST):
            self._client.log_batch(self._run, params=[Param(key, value) for key, value in part])
        for part in _parts(list(tags.items()), _MOST):
            self._client.log_batch(self._run, tags=[RunTag(key, value) for key, value in part])


def _parts(pairs: list[tuple[str, Any]], most: int) -> Iterator[list[tuple[str, Any]]]:
    rest = iter(pairs)
    while part := list(islice(rest, most)):
        yield part


def _allowed(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics under names that MLflow takes, still one for each."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        name = plain = _FOREIGN.sub("_", name)
        count = 1
        while name in found:
            count += 1
            name = f"{plain}_{count}"
        found[name] = value
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
