"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import sys


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


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add ``--progress`` and ``--no-progress``."""
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=sys.stderr.isatty(),
        help="show a bar (where stderr is a terminal)",
    )


def positive(text: str) -> int:
    """Return a whole number of at least 1; argparse turns the ValueError into its own message."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)
