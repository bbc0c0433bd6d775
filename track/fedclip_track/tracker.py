"""What a tracker is to this package, and how what goes wrong in one is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from fedclip_track.recorded_run import RecordedRun, Round, TrackError


@dataclass(frozen=True)
class Logged:
    """A tracker's own run: its identity there, and how many rounds it holds."""

    id: str
    rounds: int


class Tracker(Protocol):
    """Takes one run's rounds in order, then its files."""

    place: str
    """Which tracker, where, and which experiment, in words: two places hold two runs."""

    def open(self, run: RecordedRun, known: Logged | None) -> Logged:
        """Begin a run, or go on with one that was begun earlier."""

    def log(self, round: Round) -> None:
        """Take in the figures of a round."""

    def keep(self, run: RecordedRun) -> None:
        """Take in the run's files."""

    def close(self, finished: bool) -> None:
        """Send what is held back; ``finished`` says that no round will follow."""


_REMEDY = "see that it runs and is the right one, then give the same command again: it goes on where it stopped"
GONE = "see that it runs and is the right one; if it no longer has that run, remove track.json to log a new one"


@contextmanager
def asking(place: str, remedy: str = _REMEDY) -> Iterator[None]:
    """Turn whatever a tracker's library raises into a TrackError that names the place and says what to do."""
    try:
        yield
    except TrackError:
        raise
    except Exception as error:  # libraries of others raise what they like
        told = " ".join(str(error).split()) or type(error).__name__
        raise TrackError(f"{place} does not answer, or refuses: {_short(told)}; {remedy}") from error


def without_password(uri: str) -> str:
    """Return an address without the user and password that it may hold."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
