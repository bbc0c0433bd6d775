"""``fedclip push``: publish an adapter on the Hugging Face hub, with a card."""

from __future__ import annotations

import argparse
import sys

from fedclip_edge.arguments import path_argument
from fedclip_edge.terminal import message, printable


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "place",
        type=path_argument,
        metavar="RUN_OR_ADAPTER",
        help="runs/NAME, whose best adapter is taken, or an adapter",
    )
    parser.add_argument("repository", metavar="OWNER/NAME", help="on the hub; it is made where it is missing")
    parser.add_argument("--private", action="store_true", help="only into a repository that others cannot see")
    parser.add_argument("--revision", metavar="BRANCH", help="made where it is missing (the main branch)")
    parser.add_argument("--message", metavar="TEXT", help="of the commit (round and method)")
    parser.add_argument("--license", metavar="NAME", help="as the hub names it, such as apache-2.0 (not said)")


def act(options: argparse.Namespace) -> int:
    """Upload adapter, recipe and card; say what is sent before it is, and where it lies then."""
    from fedclip_plugin.hub import push_adapter, require_target, what_to_publish

    target = require_target(options.repository)
    publication = what_to_publish(options.place)
    for note in publication.notes:
        print(message(f"note: {note}"), file=sys.stderr, flush=True)
    saved, silos = publication.saved, [name for one in publication.card.rounds[:1] for name in one.silos]
    told = [f"round {saved.round} of {saved.method} on {saved.backbone}", f"labels {', '.join(saved.classes)}"]
    if silos:
        told.append(f"accuracies of {', '.join(silos)}, and the recipe without places")
    print(printable(f"sending to {target}: {'; '.join(told)}"), flush=True)
    names = ("private", "revision", "message", "license")
    where = push_adapter(publication, options.repository, **{name: getattr(options, name) for name in names})
    print(printable(where))
    return 0
