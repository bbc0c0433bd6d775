"""The states of one rank: a folder a round, of which those stay that a resumed run may need.

The server keeps its own under ``state/round_0012/``, every silo its own under ``personal/<silo>/state/round_0012/``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fedclip_plugin.runs.atomic import sweep
from fedclip_plugin.runs.state import Arrays, load_state, save_state
from fedclip_plugin.runs.writing import writing


class StateSeries:
    """The states of one rank, one folder a round, of which only those that a resumed run may need stay.

    Parameters
    ----------
    path
        Where the folders ``round_0012`` are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, done: int) -> None:
        """Make the folder, and remove what a killed run left of rounds after ``done``: they are trained again.

        Parameters
        ----------
        done
            Rounds that are complete; 0 for a fresh run.

        Raises
        ------
        RunFolderError
            When the folder cannot be written.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            sweep(self.path)
            for number, folder in self._rounds().items():
                if done == 0 or number > done:
                    shutil.rmtree(folder)

    def save(self, number: int, arrays: Arrays) -> None:
        """Write the state after round ``number``.

        Raises
        ------
        RunFolderError
            When the disk is full, or the folder is gone or cannot be written.
        """
        place = self.path / f"round_{number:04d}"
        with writing(place):
            save_state(place, arrays)

    def load(self, number: int) -> dict[str, npt.NDArray[Any]] | None:
        """Return the newest state of round ``number`` or before; None when there is none.

        Raises
        ------
        RunFolderError
            As :func:`load_state`.
        """
        found = [folder for had, folder in self._rounds().items() if had <= number]
        return load_state(found[-1]) if found else None

    def drop_before(self, complete: int) -> None:
        """Remove the states that nobody needs once round ``complete`` is the last complete one.

        What :meth:`load` returns for that round stays, and so does everything newer.
        """
        found = [folder for number, folder in self._rounds().items() if number <= complete]
        with writing(self.path):
            for folder in found[:-1]:
                shutil.rmtree(folder)

    def _rounds(self) -> dict[int, Path]:
        """Return the folders by round, oldest first."""
        return dict(sorted((int(path.name.removeprefix("round_")), path) for path in self.path.glob("round_[0-9]*")))
