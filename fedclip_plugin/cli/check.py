"""``fedclip check``: look through a folder or a list of images."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedclip_plugin.cli.options import add_columns, add_progress, columns_of
from fedclip_plugin.errors import DataError


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "images",
        type=Path,
        metavar="FOLDER_OR_LIST",
        help="<class>/<image>, <silo or domain>/<class>/<image>, or a list (.csv, .tsv, .txt, .lst)",
    )
    add_progress(parser)
    add_columns(parser, ("file", "label", "silo", "group", "split"))


def act(options: argparse.Namespace) -> int:
    """Print what is in a folder or a list of images; return 0 when it can be used as it is, else 1.

    Raises
    ------
    DataError
        When the folder is missing, or holds no class folders or no image, or the list cannot be used.
    """
    from fedclip_plugin.data import check_folder, check_list, is_list

    columns = columns_of(options, options.images)
    if is_list(options.images):
        report = check_list(options.images, columns, options.data_root, progress=options.progress)
    else:
        report = check_folder(options.images, progress=options.progress)
    if not report.total:
        raise DataError(
            f"{options.images} holds no readable image in <class>/ or <domain>/<class>/: give the folder above those"
        )
    print(report.to_text())
    return 0 if report.ok else 1
