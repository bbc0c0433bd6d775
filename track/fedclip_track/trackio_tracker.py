"""trackio: a local dashboard without a server, or a server of one's own."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

from fedclip_track.recorded_run import RecordedRun, Round, TrackError
from fedclip_track.tracker import GONE, Logged, asking, without_password

_PATIENCE = 10.0


class TrackioTracker:
    """A run in a project of trackio, in this user's own folder or on a server.

    Parameters
    ----------
    experiment
        Name of the project.
    uri
        The server's write-access address, as ``trackio.show()`` prints it; None takes this user's own folder.

    Raises
    ------
    TrackError
        When trackio is not installed, or the server does not answer.
    """

    def __init__(self, experiment: str, uri: str | None = None) -> None:
        try:
            import trackio
            from trackio.utils import TRACKIO_DIR
        except ImportError as error:
            raise TrackError(f"trackio cannot be imported ({error}): pip install 'fedclip-track[trackio]'") from error
        self._trackio, self._project, self._uri = trackio, experiment, uri
        address = without_password(uri).partition("?")[0] if uri else TRACKIO_DIR
        self.place = f"trackio in {address}, project {experiment}"
        if uri:
            _require_answer(uri, self.place)
        self._run: Any = None

    def open(self, run: RecordedRun, known: Logged | None) -> Logged:
        """Begin a run with the recipe as its configuration, or go on with a known one."""
        logged = known or Logged(f"{run.path.name}-{uuid4().hex[:8]}", 0)
        config = {**run.recipe(), **{f"fedclip.{name}": value for name, value in run.tags().items()}}
        with asking(self.place, *([GONE] if known else [])), redirect_stdout(sys.stderr):
            self._run = self._trackio.init(
                self._project,
                logged.id,
                server_url=self._uri,
                config=config | {"fedclip.run_folder": str(run.path)},
                resume="must" if known else "never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return logged

    def log(self, round: Round) -> None:
        """Hand over a round's figures, its number as their step."""
        with asking(self.place):
            self._run.log(dict(round.metrics), step=round.number)

    def keep(self, run: RecordedRun) -> None:
        """Hand over the run's files as artefacts; what is there already is not stored twice."""
        with asking(self.place), redirect_stdout(sys.stderr):
            for path, place in run.artefacts():
                name = f"{self._run.name}-{(place or path.name).replace('/', '-')}"
                self._run.log_artifact(path, name=name, type="adapter" if "adapters" in place else "run")

    def close(self, finished: bool) -> None:
        """Wait until all is written."""
        with asking(self.place), redirect_stdout(sys.stderr):
            self._trackio.finish()


def _require_answer(uri: str, place: str) -> None:
    """See that something answers there: trackio itself would only warn, and keep all for later."""
    try:
        with urlopen(uri, timeout=_PATIENCE):
            return
    except HTTPError:  # it answers, though not to this
        return
    except (OSError, ValueError) as error:
        told = getattr(error, "reason", None) or error
        raise TrackError(f"{place} does not answer: {told}; see that it runs, and give its write-access URL") from error
