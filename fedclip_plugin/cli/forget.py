"""``fedclip forget``: the adapter of a run without one of its silos, from what the server has kept."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedclip_edge.arguments import path_argument
from fedclip_edge.terminal import printable
from fedclip_plugin.errors import RunFolderError


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run", type=path_argument, metavar="RUN", help="runs/NAME, made with forgettable: true")
    parser.add_argument("--silo", required=True, metavar="NAME", help="the silo to leave out")
    parser.add_argument(
        "--out", type=path_argument, metavar="FOLDER", help="where the adapter goes (RUN/without/NAME); must not exist"
    )


def act(options: argparse.Namespace) -> int:
    """Write the adapter without the silo, and say where it is and what the run folder still holds of the silo."""
    from fedclip_plugin.federated.forgetting import forget
    from fedclip_plugin.runs import RunFolder, save_adapter
    from fedclip_plugin.runs.writing import writing

    folder = RunFolder(options.run)
    place: Path = options.out or folder.path / "without" / options.silo
    if place.exists():
        raise RunFolderError(f"{place} exists already; name another folder with --out, or remove it")
    saved = forget(folder, options.silo)
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        save_adapter(place, saved)
    print(printable(f"{place}: the adapter without {options.silo}"))
    left = f"{folder.path} still holds what {options.silo} gave (state/sums, adapters); remove it to be rid of that"
    print(printable(left))
    return 0
