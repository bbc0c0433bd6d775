"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedclip_edge.arguments import path_argument
from fedclip_plugin.errors import DataError

if TYPE_CHECKING:
    from fedclip_plugin.data import Columns


def add_overrides(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--set``, which says ``what``."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help=f"{what}; may be repeated",
    )


def add_adapter(parser: argparse.ArgumentParser) -> None:
    """Add the adapter that a command uses: a folder, or a name of the hub."""
    told = "such as runs/NAME/adapters/best, or OWNER/NAME that 'fedclip pull' has fetched"
    parser.add_argument("adapter", type=path_argument, metavar="ADAPTER", help=told)


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the images that a command looks at: a folder or a list."""
    told = "<class>/<image>, <silo or domain>/<class>/<image>, or a list (.csv, .tsv, .txt, .lst)"
    parser.add_argument("images", type=path_argument, metavar="FOLDER_OR_LIST", help=told)


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add ``--progress`` and ``--no-progress``."""
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="show a bar (where stderr is a terminal)",
    )


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
        "--data-root", type=path_argument, metavar="FOLDER", help="what its files are relative to (its own folder)"
    )
    for what in columns:
        told = _TOLD[what] + (f" ({what})" if what in ("file", "label") else "")
        options.add_argument(f"--{what}-column", metavar="NAME", help=told)


def columns_of(options: argparse.Namespace, path: Path) -> Columns:
    """Return the columns of a list that options name; for what is no list, a DataError where there are any."""
    from fedclip_plugin.data import Columns, is_list
    from fedclip_plugin.recipe.rules.data import LIST_SUFFIXES

    given = Columns.from_keys(vars(options))
    if not is_list(path) and (given != Columns() or options.data_root is not None):
        raise DataError(f"{path} is no list of images ({', '.join(LIST_SUFFIXES)}): leave --data-root and columns out")
    return given


def positive(text: str) -> int:
    """Return a whole number of at least 1; argparse turns the ValueError into its own message."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)
