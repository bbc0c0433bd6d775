"""Arguments of the commands that take a list of images in place of a folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from fedclip_plugin.data import Columns, is_list
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.rules.data import LIST_SUFFIXES

_TOLD = {
    "file": "the column of the image files",
    "label": "the column of their labels",
    "silo": "the column that says whose each image is",
    "group": "the column of what must stay together, such as the patient",
    "split": "the column of your own split: train, val or test",
}


def add_columns(parser: argparse.ArgumentParser, columns: Sequence[str]) -> None:
    """Add the options that tell how a list of images is read: ``--data-root``, and the names of some columns."""
    options = parser.add_argument_group("for a list of images")
    options.add_argument(
        "--data-root", type=Path, metavar="FOLDER", help="what its files are relative to (its own folder)"
    )
    for what in columns:
        usual = getattr(Columns, what)
        told = _TOLD[what] + (f" ({usual})" if usual else "")
        options.add_argument(f"--{what}-column", metavar="NAME", help=told)


def columns_of(options: argparse.Namespace, path: Path) -> Columns:
    """Return the columns of a list that options name; for what is no list, a DataError where there are any."""
    given = {
        field.name: value
        for field in fields(Columns)
        if (value := getattr(options, f"{field.name}_column", None)) is not None
    }
    if not is_list(path) and (given or options.data_root is not None):
        raise DataError(f"{path} is no list of images ({', '.join(LIST_SUFFIXES)}): leave --data-root and columns out")
    return Columns(**given)
