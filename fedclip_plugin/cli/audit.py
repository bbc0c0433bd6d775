"""``fedclip audit``: verify a silo's egress log, and tell what left in all."""

from __future__ import annotations

import argparse

from fedclip_edge.arguments import path_argument

NOT_VERIFIED = 2


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("log", type=path_argument, metavar="LOG", help="such as runs/NAME/logs/egress_1.jsonl")
    parser.add_argument(
        "--last-hash",
        dest="given",
        action="append",
        default=[],
        metavar="HASH",
        help="a last hash that the silo's log or console told: a line of the egress log must have it; may be repeated",
    )


def act(options: argparse.Namespace) -> int:
    """Print what left and what is wrong with the log; return 0 when it is verified, else 2."""
    from fedclip_plugin.trust.audit import audit

    found = audit(options.log, options.given)
    print(found.to_text())
    return 0 if found.verified else NOT_VERIFIED
