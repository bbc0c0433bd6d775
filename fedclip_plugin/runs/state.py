"""What a run remembers from one round to the next, on disk: ``state.json`` beside ``state.safetensors``."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fedclip_edge.files import sweep, write_folder
from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.runs.writing import writing

FORMAT_VERSION = 1

Arrays = Mapping[str, npt.NDArray[Any]]


def save_state(folder: Path, arrays: Arrays) -> None:
    """Write named arrays as ``folder``, whole or not at all."""
    weights = save_tensors({name: np.asarray(array, order="C") for name, array in arrays.items()})
    header = {"format_version": FORMAT_VERSION, "sha256": hashlib.sha256(weights).hexdigest()}
    text = json.dumps(header, indent=1, sort_keys=True) + "\n"
    write_folder(folder, {"state.json": text.encode(), "state.safetensors": weights})


def load_state(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a state and check them against their checksum.

    A file that is missing, truncated, altered, or of a newer format is a RunFolderError.
    """
    try:
        header = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        weights = (folder / "state.safetensors").read_bytes()
        version, expected = header["format_version"], header["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(folder, f"cannot be read ({error})") from error
    if version != FORMAT_VERSION:
        raise RunFolderError(
            f"{folder}: state format {version!r}; this version reads format {FORMAT_VERSION}: update fedclip-plugin"
        )
    if expected != hashlib.sha256(weights).hexdigest():
        raise _unusable(folder, "differs from its checksum: it was truncated or altered")
    return load_tensors(weights)


def _unusable(folder: Path, why: str) -> RunFolderError:
    return RunFolderError(
        f"{folder} {why}: this run cannot go on exactly as it was; restore the folder from a copy, or begin a new "
        "run with another --run"
    )


def round_folders(path: Path) -> dict[int, Path]:
    """Return the folders such as ``round_0012`` by round, oldest first."""
    return dict(sorted((int(folder.name.removeprefix("round_")), folder) for folder in path.glob("round_[0-9]*")))


class StateSeries:
    """The states of one rank, one folder a round, of which only those that a resumed run may need stay."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, done: int) -> None:
        """Make the folder, and remove what a killed run left of rounds after ``done``: they are trained again.

        ``done`` is 0 for a fresh run.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            sweep(self.path)
            for number, folder in round_folders(self.path).items():
                if done == 0 or number > done:
                    shutil.rmtree(folder)

    def save(self, number: int, arrays: Arrays) -> None:
        """Write the state after round ``number``."""
        place = self.path / f"round_{number:04d}"
        with writing(place):
            save_state(place, arrays)

    def load(self, number: int) -> dict[str, npt.NDArray[Any]] | None:
        """Return the newest state of round ``number`` or before, as :func:`load_state`; None when there is none."""
        found = [folder for had, folder in round_folders(self.path).items() if had <= number]
        return load_state(found[-1]) if found else None

    def drop_before(self, complete: int) -> None:
        """Remove the states that nobody needs once round ``complete`` is the last complete one.

        What :meth:`load` returns for that round stays, and so does everything newer.
        """
        found = [folder for number, folder in round_folders(self.path).items() if number <= complete]
        with writing(self.path):
            for folder in found[:-1]:
                shutil.rmtree(folder)
