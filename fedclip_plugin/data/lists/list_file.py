"""Read a list of images: ``.csv`` and ``.tsv`` with a header, ``.txt`` and ``.lst`` with a file and a label a line."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedclip_edge.safe_files import open_plain
from fedclip_edge.terminal import printable
from fedclip_plugin.data.names import name_fault, twin_fault, twins
from fedclip_plugin.data.splits import part_named
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import brief, did_you_mean, listed, show
from fedclip_plugin.recipe.rules.data import LIST_SUFFIXES, PLAIN_LISTS

Record = tuple[int, list[str]]
"""A line's number, from 1, and its values."""

_SEPARATORS = ",;\t"
_MOST_FAULTS = 20


@dataclass(frozen=True)
class Columns:
    """Names of a list's columns; None: the list is not asked for it."""

    file: str = "file"
    label: str = "label"
    silo: str | None = None
    group: str | None = None
    split: str | None = None

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any]) -> Columns:
        """Return those that keys of a recipe name, ``file_column`` and so on; others are not looked at."""
        names = {what: keys.get(key) for key, what in cls.recipe_keys().items()}
        return cls(**{what: name for what, name in names.items() if name is not None})

    @classmethod
    def recipe_keys(cls) -> dict[str, str]:
        """Return the key of a recipe for each column, and what it asks for (``file``, ``label`` ...)."""
        return {f"{field.name}_column": field.name for field in fields(cls)}

    def named(self) -> dict[str, str]:
        """Return what is asked for (``file``, ``label``, ``silo`` ...) and the name of its column."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {what: name for what, name in found.items() if name is not None}


@dataclass(frozen=True)
class Row:
    """One image of a list; `silo`, `group` and `split` are empty where the list is not asked for them."""

    file: str  # as it is written
    label: str
    silo: str = ""
    group: str = ""
    split: str = ""  # train, validation or test
    line: int = 0  # in which it stands, from 1


def in_silo(path: Path, silo: str) -> Path:
    """Return a path with the name of a silo in place of ``{silo}``."""
    return Path(str(path).replace("{silo}", silo)) if "{silo}" in str(path) else path


def is_list(path: Path) -> bool:
    """Return whether a path ends, in any case, as a list of images does."""
    return path.suffix.lower() in LIST_SUFFIXES


def read_rows(path: Path, columns: Columns, root: Path) -> tuple[Row, ...]:
    """Read a list of images.

    ``.csv`` is separated by whichever of comma, semicolon and tab parts its header most, ``.tsv`` by tabs; fields may
    be quoted. ``.txt`` and ``.lst`` have no header: a line holds a file, a tab (where there is none, the last spaces),
    and a label. All are UTF-8, with or without a byte order mark; lines may end as on Windows, and empty ones are
    skipped. Spaces around a value do not count. Labels are text, as written.

    Parameters
    ----------
    root
        Folder that file names are relative to; ``{silo}`` in it stands for the silo of each line.

    Raises
    ------
    DataError
        The list cannot be read, has no image, lacks a column, or has faults in its lines, which are all told with their
        numbers: an empty value, a file that stands in two lines, an unknown split, a name that cannot be used.
    """
    if not is_list(path):
        raise DataError(f"list {printable(str(path))}: a list of images ends in {', '.join(LIST_SUFFIXES)}")
    try:
        with open_plain(path) as stream:
            content = stream.read()
    except FileNotFoundError as error:
        raise DataError(
            f"list {printable(str(path))} does not exist; check the path (in a recipe: fedclip_args.data_list)"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read list {printable(str(path))}: {getattr(error, 'strerror', error)}") from error
    return parse_rows(path, content, columns, root)


@lru_cache(maxsize=2)  # every silo's images are looked up in the same list
def parse_rows(path: Path, content: bytes, columns: Columns, root: Path) -> tuple[Row, ...]:
    """Return the rows of a list's content; all else as for `read_rows`."""
    width, where, records = _records(path, content, columns)
    if not records:
        raise DataError(f"list {printable(str(path))} names no image; it needs a line for each")
    rows, faults, named = list[Row](), list[str](), columns.named()
    for line, values in records:
        found = {what: values[place] if place < len(values) else "" for what, place in where.items()}
        if len(values) > width:
            faults.append(
                f"line {line}: {len(values)} values, and there are {width} columns; put a value that holds the "
                "separator into double quotes"
            )
        else:
            faults += [f"line {line}: {fault}" for fault in _value_faults(found, named)]
        split = part_named(found.get("split", "")) or ""
        rows.append(Row(found["file"], found["label"], found.get("silo", ""), found.get("group", ""), split, line))
    faults += [*_repeated(rows, root), *_spelt_twice(rows)]
    if faults:
        raise DataError(_told(path, faults))
    return tuple(rows)


def _records(path: Path, content: bytes, columns: Columns) -> tuple[int, dict[str, int], list[Record]]:
    """Return the number of columns, the place of each one that is asked for, and the lines of values."""
    text = _text(path, content)
    if path.suffix.lower() in PLAIN_LISTS:
        _require_plain(path, columns)
        return 2, {"file": 0, "label": 1}, list(_plain_records(text))
    records = list(_table_records(path, text))
    if not records:
        return 0, {}, []
    header = records.pop(0)[1]
    return len(header), _places(path, header, columns), records


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"list {printable(str(path))}, line {line}: is not UTF-8; save it as such (Excel: 'CSV UTF-8')"
        ) from error


def _table_records(path: Path, text: str) -> Iterator[Record]:
    separator = "\t" if path.suffix.lower() == ".tsv" else _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    line = 1
    try:
        for values in reader:
            values = [value.strip() for value in values]
            if any(values):
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"list {printable(str(path))}, line {line}: {error}; double quotes go around a whole value, and one inside "
            "is written twice"
        ) from error


def _separator(text: str) -> str:
    """Return what parts the header most; a comma where nothing does."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return max(_SEPARATORS, key=lambda separator: len(next(csv.reader([header], delimiter=separator))))


def _plain_records(text: str) -> Iterator[Record]:
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if line.strip():
            yield number, [value.strip() for value in (line.split("\t") if "\t" in line else line.rsplit(None, 1))]


def _require_plain(path: Path, columns: Columns) -> None:
    for what, name in columns.named().items():
        if what in ("silo", "group", "split"):
            raise DataError(
                f"list {printable(str(path))} has a file and a label a line and no column {name!r}; write a .csv with "
                f"a header for that, or leave {what}_column out"
            )


def _places(path: Path, header: Sequence[str], columns: Columns) -> dict[str, int]:
    """Return what is asked for and the place of its column in the header."""
    faults = []
    for what, name in columns.named().items():
        if name not in header:
            hint = did_you_mean(name, header)
            faults.append(
                f"has no column {name!r}{hint}; its first line names {listed(map(show, header))}. Name the column of "
                f"the {_MEANING[what]} by --{what}-column, in a recipe by fedclip_args.{what}_column"
            )
        elif header.count(name) > 1:
            faults.append(f"has {header.count(name)} columns named {name!r}; give each a name of its own")
    if faults:
        raise DataError("\n  ".join(f"list {printable(str(path))} {fault}" for fault in faults))
    return {what: header.index(name) for what, name in columns.named().items()}


_MEANING = {"file": "images' files", "label": "labels", "silo": "silos", "group": "groups", "split": "splits"}


def _value_faults(found: Mapping[str, str], named: Mapping[str, str]) -> Iterator[str]:
    for what, value in found.items():
        place = f"{what} (column {named[what]})"
        if not value:
            yield f"no {place}; give one, or remove the line"
        elif not value.isprintable() and name_fault(value):
            yield f"{place} {show(value)} has a line break or a control character in it; take it out"
        elif what == "silo" and ("/" in value or value in (".", "..")):
            yield f"{place} {show(value)}: a silo's name is that of a folder too; write it without '/'"
        elif what == "split" and part_named(value) is None:
            yield f"{place} {show(value)} is not known; write train, val (valid, validation) or test"


def _repeated(rows: Sequence[Row], root: Path) -> Iterator[str]:
    first: dict[str, Row] = {}
    for row in rows:
        path = os.path.normpath(os.path.join(in_silo(root, row.silo), row.file))  # noqa: PTH118 (a Path per file is slow)
        earlier = first.setdefault(path, row)
        if row.file and earlier is not row:
            labels = (
                ""
                if row.label == earlier.label
                else f", and labelled {show(earlier.label)} there, {show(row.label)} here"
            )
            yield f"line {row.line}: {show(row.file)} is in line {earlier.line} already{labels}; keep one of the two"


def _spelt_twice(rows: Sequence[Row]) -> Iterator[str]:
    for what in ("label", "silo", "group"):
        names = sorted({getattr(row, what) for row in rows})
        yield from (twin_fault(group, f"{what}s", "write one of them everywhere") for group in twins(names))


def _told(path: Path, faults: Sequence[str]) -> str:
    shown = [brief(fault, 400) for fault in faults[:_MOST_FAULTS]]
    if len(faults) == 1:
        return f"list {printable(str(path))}, {shown[0]}"
    more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
    return "\n  ".join([f"list {printable(str(path))} has {len(faults)} faults", *shown, *more])
