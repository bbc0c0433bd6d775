"""Rows by key in a folder of files: added to in parts, each of which appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from fedclip_edge.files import remove_abandoned, write_file
from fedclip_edge.terminal import printable
from fedclip_plugin.errors import DataError
from fedclip_plugin.text import size

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]

_SMALL = 4096
"""A part in which fewer rows are still of use is taken into the next one that is written."""


@dataclass(frozen=True)
class Part:
    """Some rows, as one file holds them."""

    keys: Sequence[str]  # one a row
    columns: Mapping[str, Array]  # name to ``[N, ...]``, a row a key
    notes: Mapping[str, str] = field(default_factory=dict)  # key to text, for some of the keys

    def select(self, rows: Sequence[int]) -> Part:
        """Return some of the rows."""
        keys = [self.keys[row] for row in rows]
        columns = {name: column[list(rows)] for name, column in self.columns.items()}
        return Part(keys, columns, {key: self.notes[key] for key in keys if key in self.notes})

    @staticmethod
    def joined(parts: Sequence[Part]) -> Part:
        """Return the rows of all ``parts``, which have the same columns."""
        return Part(
            [key for part in parts for key in part.keys],
            {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
            {key: note for part in parts for key, note in part.notes.items()},
        )


class Parts:
    """A table on disk that grows without being written again.

    Every addition is a file of its own. It takes in the rows of small files, which are removed then, so that there are
    never many, and a row is written again a few times at most, however often something is added. Two processes may add
    at once: neither changes nor needs a file of the other. A later file's row stands for an earlier one's of the same
    key. A corrupt file is reported and counts as absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts: dict[Path, Part] = {}
        self._corrupt: list[Path] = []
        self.where: dict[str, tuple[Path, int]] = {}  # key to the file and row that hold it
        while not self._read():
            self._parts, self._corrupt = {}, []

    def __contains__(self, key: object) -> bool:
        return key in self.where

    def rows(self, keys: Sequence[str], column: str) -> Array:
        """Return what a column holds for some keys, at least one, in their order."""
        places: dict[Path, list[int]] = {}
        for index, key in enumerate(keys):
            places.setdefault(self.where[key][0], []).append(index)
        first = next(iter(self._parts[path].columns[column] for path in places))
        found = np.empty((len(keys), *first.shape[1:]), first.dtype)
        for path, indices in places.items():
            found[indices] = self._parts[path].columns[column][[self.where[keys[index]][1] for index in indices]]
        return found

    def note(self, key: str) -> str:
        """Return the note of a key, empty when it has none."""
        return self._parts[self.where[key][0]].notes.get(key, "")

    def add(self, part: Part, wanted: Collection[str]) -> None:
        """Write at least one row; of the old ones, those that are ``wanted`` stay where a file is written again.

        A full disk, or a folder that cannot be written, is a DataError; what was there is untouched then.
        """
        taken = [Part([], {})] * 0
        replaced = list(self._corrupt)
        new = set(part.keys)
        for path, old in self._parts.items():
            rows = [row for row, key in enumerate(old.keys) if self.where[key] == (path, row)]
            of_use = [row for row in rows if old.keys[row] in wanted and old.keys[row] not in new]
            if len(of_use) < _SMALL:
                taken += [old.select(of_use)] if of_use else []
                replaced.append(path)
        whole = Part.joined([*taken, part])
        with naming_cache(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{self._next_number():06d}-{secrets.token_hex(4)}.safetensors"
            write_file(path, _to_bytes(whole))
            for old_path in replaced:
                old_path.unlink(missing_ok=True)  # another process may have taken it in too
            remove_abandoned(self.folder)
        self._parts = {path: part for path, part in self._parts.items() if path not in replaced}
        self._corrupt = []
        self._parts[path] = whole
        self._index(path, whole)

    def _read(self) -> bool:
        """Read all files; False when one was taken into another meanwhile, and all are to be listed again."""
        for path in sorted(self.folder.glob("[0-9]*.safetensors")):
            try:
                part = _from_file(path)
            except FileNotFoundError:
                return False
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                logger.warning("feature cache %s is corrupt (%s): computing it again", printable(str(path)), error)
                self._corrupt.append(path)
                continue
            self._parts[path] = part
            self._index(path, part)
        return True

    def _index(self, path: Path, part: Part) -> None:
        self.where |= {key: (path, row) for row, key in enumerate(part.keys)}

    def _next_number(self) -> int:
        return max((int(path.name.split("-")[0]) for path in self.folder.glob("[0-9]*.safetensors")), default=0) + 1


@contextmanager
def naming_cache(folder: Path) -> Iterator[None]:
    """Let an error of the disk say that it is the feature cache which cannot be written, and what to do.

    A DataError takes the place of an OSError that names no file, or one in or above ``folder``.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            named = Path(error.filename)
            if not (named.is_relative_to(folder) or folder.is_relative_to(named)):
                raise
        raise DataError(
            f"the feature cache {printable(str(folder))} cannot be written ({error.strerror or error}): make room or "
            "let it be written, or have another folder take its place (fedclip_args.feature_cache_dir in a recipe; "
            "fedclip evaluate keeps it in .fedclip/features of the folder in which it is started)"
        ) from error


def require_room(folder: Path, need: int, what: str, remedy: str = "") -> None:
    """See that a cache can be written and ``need`` bytes fit on its disk, before work is spent on them.

    Raises
    ------
    DataError
        They do not, or the folder cannot be written; tells ``what`` they are and another ``remedy``.
    """
    with naming_cache(folder):
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()  # a disk that is mounted read-only lets a folder be that exists
        free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(
            f"{what} take {size(need)} in {printable(str(folder))}, where {size(free)} are free: make room, "
            f"{'or ' if not remedy else ''}set fedclip_args.feature_cache_dir to a larger disk{remedy}"
        )


def _to_bytes(part: Part) -> bytes:
    columns = {name: np.ascontiguousarray(column) for name, column in part.columns.items()}
    note = {"keys": json.dumps(list(part.keys)), "notes": json.dumps(dict(part.notes))}
    return save_tensors(columns, metadata={**note, "sha256": _digest(columns, note)})


def _from_file(path: Path) -> Part:
    with safe_open(path, framework="numpy") as stream:
        columns = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        note = stream.metadata() or {}
    if note.get("sha256") != _digest(columns, note):
        raise ValueError("its checksum differs")
    return Part(json.loads(note["keys"]), columns, json.loads(note["notes"]))


def _digest(columns: Mapping[str, Array], note: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for text in (note["keys"], note["notes"]):
        digest.update(text.encode() + b"\0")
    for name in sorted(columns):
        digest.update(f"{name} {columns[name].dtype} {columns[name].shape}\0".encode())
        digest.update(np.ascontiguousarray(columns[name]).data)
    return digest.hexdigest()
