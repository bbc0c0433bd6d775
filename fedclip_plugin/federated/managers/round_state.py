"""What a rank remembers from one round to the next, besides the global adapter, and its copy on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.methods.parameters import to_tensors
from fedclip_plugin.runs.state import StateSeries


class Remembers(Protocol):
    """Something whose next step may depend on those before."""

    @property
    def remembers(self) -> bool:
        """Whether it does."""

    def state(self) -> Mapping[str, Tensor]:
        """Return what the next step needs, as named tensors on the CPU."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a :meth:`state`."""


class RoundState:
    """Saves and restores what a rank remembers, by round; where nothing is remembered nothing is written.

    The folders ``round_0012`` go to ``path``, on the rank's own machine; ``parts`` are what remembers, by name.
    """

    def __init__(self, path: Path, **parts: Remembers) -> None:
        self._parts = {name: part for name, part in parts.items() if part.remembers}
        self._series = StateSeries(path)

    def begin(self, done: int) -> None:
        """Begin afresh, or restore what was remembered after round ``done``; a RunFolderError when that is lost."""
        if not self._parts:
            return
        self._series.begin(done)
        if not done:
            self._series.save(0, {})
            return
        arrays = self._series.load(done)
        if arrays is None:
            raise RunFolderError(
                f"{self._series.path} holds nothing of round {done} or before, and without it this run cannot go on "
                "exactly as it was: restore the folder from a copy, or begin a new run with another --run"
            )
        for name, part in self._parts.items():
            own = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
            part.load_state(to_tensors(own))

    def save(self, number: int) -> None:
        """Write what is remembered after round ``number``."""
        if self._parts:
            kept = {f"{name}.{key}": value for name, part in self._parts.items() for key, value in part.state().items()}
            self._series.save(number, {key: value.numpy() for key, value in kept.items()})

    def drop_before(self, complete: int) -> None:
        """Remove from disk what nobody needs once round ``complete`` is the last complete one."""
        if self._parts:
            self._series.drop_before(complete)
