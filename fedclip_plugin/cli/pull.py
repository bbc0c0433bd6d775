"""``fedclip pull``: fetch an adapter from the Hugging Face hub into this machine's hub cache."""

from __future__ import annotations

import argparse

from fedclip_edge.terminal import printable


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("repository", metavar="OWNER/NAME[@REVISION]", help="on the hub")


def act(options: argparse.Namespace) -> int:
    """Fetch an adapter, check it, and say where it lies; from then on its name stands for it in every command."""
    from fedclip_plugin.hub import pull_adapter
    from fedclip_plugin.runs import load_adapter

    folder = pull_adapter(options.repository)
    saved = load_adapter(folder)
    what = f"round {saved.round} of {saved.method} on {saved.backbone}, {len(saved.classes)} labels"
    print(printable(f"{folder}: {what}"))
    return 0
