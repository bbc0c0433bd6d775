"""``fedclip check``: look through a folder of images."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedclip_plugin.cli.options import add_progress
from fedclip_plugin.errors import DataError


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="<class>/<image>, or <silo or domain>/<class>/<image>"
    )
    add_progress(parser)


def act(options: argparse.Namespace) -> int:
    """Print what is in a folder of images; return 0 when it can be used as it is, else 1.

    Raises
    ------
    DataError
        When the folder is missing, or holds no class folders or no image.
    """
    from fedclip_plugin.data import check_folder

    report = check_folder(options.folder, progress=options.progress)
    if not report.total:
        raise DataError(
            f"{options.folder} holds no readable image in <class>/ or <domain>/<class>/: give the folder above those"
        )
    print(report.to_text())
    return 0 if report.ok else 1
