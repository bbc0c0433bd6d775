"""``fedclip audit``: verify a silo's egress log, and tell what left in all."""

from __future__ import annotations

import argparse

from fedclip_edge.arguments import path_argument

NOT_VERIFIED = 2


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("log", type=path_argument, metavar="LOG", help="such as runs/NAME/logs/egress_1.jsonl")
    parser.add_argument(
        "--head",
        dest="heads",
        action="append",
        default=[],
        metavar="HASH",
        help="a head that the silo's console or log told: it must be in the log; may be repeated",
    )


def act(options: argparse.Namespace) -> int:
    """Print what left and what is wrong with the log; return 0 when it is verified, else 2."""
    from fedclip_plugin.trust.audit import audit

    found = audit(options.log, options.heads)
    print(found.to_text())
    return 0 if found.verified else NOT_VERIFIED
