"""``track.json`` in the run folder: which run of which tracker is this one, so that nothing is logged twice."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from fedclip_track.recorded_run import TrackError
from fedclip_track.tracker import Logged

logger = logging.getLogger(__name__)


class Notes:
    """What was logged of a run, by place; the file appears whole or not at all.

    Raises
    ------
    TrackError
        When the file is damaged.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self._path, self._digest = folder / "track.json", digest
        self._logged: dict[str, Logged] = {}
        if not self._path.is_file():
            return
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            of, self._logged = found["recipe_digest"], {place: Logged(**one) for place, one in found["runs"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrackError(f"{self._path} cannot be used: {error}; remove it to log this run anew") from error
        if of != digest:
            raise TrackError(f"{self._path} is of another recipe: this run was begun anew; remove it to log a new run")

    def find(self, place: str) -> Logged | None:
        """Return what a place holds of this run; None when it was never logged there."""
        return self._logged.get(place)

    def write(self, place: str, logged: Logged) -> None:
        """Remember what a place holds now.

        Raises
        ------
        TrackError
            When the folder cannot be written.
        """
        self._logged[place] = logged
        runs = {place: asdict(one) for place, one in self._logged.items()}
        text = json.dumps({"recipe_digest": self._digest, "runs": runs}, indent=1) + "\n"
        half = self._path.with_name(f".{self._path.name}.half")
        with _writing(self._path):
            half.write_text(text, encoding="utf-8")
            half.replace(self._path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second ``fedclip-track`` out of a run folder during a block; one that has died keeps nobody out.

    Raises
    ------
    TrackError
        When another one logs this run, or the folder cannot be written.
    """
    path = folder / ".track.lock"
    with _writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise TrackError(f"{folder} is being logged by another fedclip-track: end that one, or wait") from None
    except OSError:
        logger.warning("the file system of %s has no locks: start no second fedclip-track for this run", folder)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrackError(f"{path} cannot be written: {error.strerror}; what is logged is noted there") from error
