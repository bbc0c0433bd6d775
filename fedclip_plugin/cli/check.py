"""``fedclip check``: look through a folder or a list of images."""

from __future__ import annotations

import argparse

from fedclip_edge.sample_range import RANGE_RULE, is_range
from fedclip_plugin.cli.options import add_columns, add_images, add_progress, columns_of
from fedclip_plugin.errors import DataError


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_images(parser)
    parser.add_argument(
        "--sample-range",
        type=float,
        nargs=2,
        metavar=("BLACK", "WHITE"),
        help="what fedclip_args.sample_range would scale samples of more than 8 bits by, such as 0 4095",
    )
    add_progress(parser)
    add_columns(parser, ("file", "label", "silo", "group", "split"))


def act(options: argparse.Namespace) -> int:
    """Print what is in a folder or a list of images; return 0 when it can be used as it is, else 1.

    Raises
    ------
    DataError
        When the folder is missing, or holds no class folders or no image, the list cannot be used, or the sample range
        is none.
    """
    from fedclip_plugin.data import check_images

    ends = options.sample_range and tuple(options.sample_range)
    if ends and not is_range(ends):
        raise DataError(f"--sample-range {ends[0]:g} {ends[1]:g} must be {RANGE_RULE}")
    columns = columns_of(options, options.images)
    report = check_images(options.images, columns, options.data_root, progress=options.progress, sample_range=ends)
    if not report.total:
        raise DataError(
            f"{options.images} holds no readable image in <class>/ or <domain>/<class>/: give the folder above those"
        )
    print(report.to_text())
    return 0 if report.ok else 1
