"""``fedclip-track``: log a run folder to an experiment tracker, also while the run goes on."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from fedclip_track import __version__
from fedclip_track.mlflow_tracker import MlflowTracker
from fedclip_track.notes import Notes, alone
from fedclip_track.recorded_run import RecordedRun, TrackError
from fedclip_track.tracker import Logged, Tracker
from fedclip_track.trackio_tracker import TrackioTracker

TRACKERS: dict[str, Callable[[str, str | None], Tracker]] = {"mlflow": MlflowTracker, "trackio": TrackioTracker}
"""Every tracker by its name; each imports its library when it is made."""

_PAUSE = 1.0
"""Seconds between two looks at a run that goes on."""

_INTERRUPTED = 128 + 2


def main(argv: Sequence[str] | None = None) -> int:
    """Log a run.

    Parameters
    ----------
    argv
        Words after the program's name; None takes the process's own.

    Returns
    -------
    int
        Exit code: 0 done, 2 bad input or a tracker that does not answer, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(argv)
    try:
        run = RecordedRun(options.run)
        with alone(run.path):
            track(run, lambda: TRACKERS[options.to](options.experiment, options.tracking_uri), options.follow)
    except TrackError as error:
        _tell(f"fedclip-track: {error}")
        return 2
    except KeyboardInterrupt:
        _tell("fedclip-track: interrupted; the same command goes on where this one stopped")
        return _INTERRUPTED
    return 0


def track(run: RecordedRun, make_tracker: Callable[[], Tracker], follow: bool) -> None:
    """Log what is new of a run, and with ``follow`` what comes until it is finished.

    A damaged run is refused before a tracker is asked.

    Raises
    ------
    TrackError
        When the run cannot be read, or the tracker refuses.
    """
    if follow:
        _await_recipe(run)
    notes, seen = Notes(run.path, run.tags()["recipe_digest"]), len(run.rounds())
    tracker = make_tracker()
    logged = tracker.open(run, notes.find(tracker.place))
    finished = False
    try:
        notes.write(tracker.place, logged)
        if logged.rounds > seen:
            _refuse_shorter(run, tracker, logged, seen)
        logged, finished = _log_rounds(run, tracker, notes, logged, follow)
        if finished or not run.has_job():
            tracker.keep(run)
    finally:
        tracker.close(finished)
    state = "finished" if finished else "not finished yet: give the same command again, or --follow"
    _say(f"{run.path.name}: {logged.rounds} rounds are in {tracker.place}, run {logged.id}; {state}")


def _log_rounds(run: RecordedRun, tracker: Tracker, notes: Notes, logged: Logged, follow: bool) -> tuple[Logged, bool]:
    """Log rounds as they come; return what is logged then, and whether the run is finished."""
    idle = False
    while True:
        rounds = run.rounds()
        for one in rounds[logged.rounds :]:
            tracker.log(one)
            logged = Logged(logged.id, one.number + 1)
            notes.write(tracker.place, logged)
            if follow:
                _say(f"round {one.number}")
        if run.is_finished(len(rounds)) or not follow:
            return logged, run.is_finished(len(rounds))
        if not idle and not run.has_job():
            idle = True
            _tell("no job works in the run folder on this machine: waiting for it to be resumed; Ctrl-C ends this")
        time.sleep(_PAUSE)


def _await_recipe(run: RecordedRun) -> None:
    """Wait for a run whose job has begun, and has no recipe in its folder yet."""
    while not run.has_begun and run.has_job():
        time.sleep(_PAUSE)


def _refuse_shorter(run: RecordedRun, tracker: Tracker, logged: Logged, seen: int) -> NoReturn:
    raise TrackError(
        f"{run.path} holds {seen} rounds, and {tracker.place} has {logged.rounds} of run {logged.id}: it was begun "
        "anew; remove track.json from it to log a new run"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedclip-track",
        description="Log a run folder of FedCLIP: recipe, rounds, costs and adapters. A second call logs what is new.",
        epilog="example: fedclip-track runs/demo --to mlflow --tracking-uri http://localhost:5000 --follow",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/NAME")
    parser.add_argument("--to", choices=tuple(TRACKERS), required=True, help="the tracker")
    parser.add_argument("--follow", action="store_true", help="go on until the run is finished")
    parser.add_argument(
        "--experiment", default="fedclip", metavar="NAME", help="MLflow's experiment, trackio's project (fedclip)"
    )
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="the server (the tracker's own default: its variable, or local files)"
    )
    parser.add_argument("--version", action="version", version=f"fedclip-track {__version__}")
    return parser


def _say(text: str) -> None:
    print(_printable(text), flush=True)


def _tell(text: str) -> None:
    print(_printable(text), file=sys.stderr, flush=True)


def _printable(text: str) -> str:
    """Return a text on one line, with everything escaped that a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


if __name__ == "__main__":
    sys.exit(main())
