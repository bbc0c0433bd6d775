"""Write a list of images that reads back as it was given."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fedclip_edge.files import write_file
from fedclip_edge.terminal import printable
from fedclip_plugin.data.lists.list_file import Columns, Row, parse_rows
from fedclip_plugin.errors import DataError


def write_list(path: Path, rows: Iterable[Row]) -> Columns:
    """Write a list of images, as a whole or not at all.

    Parameters
    ----------
    path
        Ends in ``.csv`` or ``.tsv``. Relative files are relative to its folder, unless a recipe gives a data root.
    rows
        At least one; ``line`` is not looked at. Columns that are empty in every row are left out.

    Returns
    -------
    Columns
        The names of what was written: ``file``, ``label``, and ``silo``, ``group``, ``split`` where they are given.

    Raises
    ------
    DataError
        There is no row, or one that would not be read back: a value is missing or cannot be written, a file is named
        twice.
    """
    every = list(rows)
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise DataError(f"cannot write list {printable(str(path))}: its name must end in .csv or .tsv")
    given = {what for row in every for what in ("silo", "group", "split") if getattr(row, what)}
    columns = Columns(**{what: what for what in given})
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", lineterminator="\n")
    writer.writerow(columns.named())
    writer.writerows([getattr(row, what) for what in columns.named()] for row in every)
    try:
        content = text.getvalue().encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"cannot write list {printable(str(path))}: a name in it is not valid UTF-8; rename it"
        ) from error
    for row, back in zip(every, parse_rows(path, content, columns, path.parent), strict=True):
        if row != replace(back, line=row.line):
            raise DataError(f"cannot write list {printable(str(path))}: {row} would read as {back}; change its names")
    write_file(path, content)
    return columns
