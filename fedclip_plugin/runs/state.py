"""What a run remembers from one round to the next, on disk: ``state.json`` beside ``state.safetensors``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.runs.atomic import write_folder

FORMAT_VERSION = 1

Arrays = Mapping[str, npt.NDArray[Any]]


def save_state(folder: Path, arrays: Arrays) -> None:
    """Write named arrays as ``folder``, whole or not at all.

    Raises
    ------
    OSError
        When the disk is full or the parent folder cannot be written.
    """
    weights = save_tensors({name: np.asarray(array, order="C") for name, array in arrays.items()})
    header = {"format_version": FORMAT_VERSION, "sha256": hashlib.sha256(weights).hexdigest()}
    text = json.dumps(header, indent=1, sort_keys=True) + "\n"
    write_folder(folder, {"state.json": text.encode(), "state.safetensors": weights})


def load_state(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a state and check them against their checksum.

    Raises
    ------
    RunFolderError
        When a file is missing, truncated, altered, or of a newer format.
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
