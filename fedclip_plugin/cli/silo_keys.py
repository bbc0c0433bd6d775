"""``fedclip silo-keys``: make a silo's key, or look at this machine's keys and roster for a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedclip_edge.terminal import printable
from fedclip_plugin.cli.options import add_overrides
from fedclip_plugin.errors import SiloKeysError
from fedclip_plugin.text import counted

if TYPE_CHECKING:
    from fedclip_edge.bundle.keys import PublicKey

_WHAT = {
    "new": "make a silo's key on its machine, and print its line of the roster; never overwrites one",
    "check": "look at this machine's keys and roster for a recipe, and print fingerprints; exit code 2 for a fault",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's own commands."""
    choices = parser.add_subparsers(required=True, metavar="COMMAND", dest="silo_keys", help=", ".join(_WHAT))
    own = {
        name: choices.add_parser(name, prog=f"fedclip silo-keys {name}", help=what, description=what)
        for name, what in _WHAT.items()
    }
    for command in own.values():
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    own["new"].add_argument("silo", metavar="NAME", help="the silo's name, as the recipe has it")
    own["check"].add_argument("recipe", metavar="RECIPE", help="a file, or a name that 'fedclip ls' shows")
    add_overrides(own["check"], "override a key")


def act(options: argparse.Namespace) -> int:
    """Make a key, or tell of those that there are.

    Raises
    ------
    SiloKeysError
        The key exists already, or cannot be written; or keys and roster do not do for the recipe.
    """
    from fedclip_plugin.trust.silo_keys import keys_folder

    folder = keys_folder()
    if options.silo_keys == "new":
        _new(folder, options.silo)
    else:
        _check(folder, options)
    return 0


def _new(folder: Path, silo: str) -> None:
    from fedclip_plugin.trust.silo_keys import ROSTER, fingerprint, new_key, roster_line

    key = new_key(folder, silo)
    print(
        f"{printable(str(folder / silo))}.key holds the private key: it stays on this machine\n"
        f"fingerprint, to compare by telephone: {fingerprint(key)}\n"
        f"this line goes into {ROSTER} in that folder, on the machines of all silos:\n{roster_line(silo, key)}"
    )


def _check(folder: Path, options: argparse.Namespace) -> None:
    from fedclip_plugin.recipe import find_recipe, load_recipe
    from fedclip_plugin.trust.silo_keys import load_identity, load_roster

    recipe = load_recipe(find_recipe(options.recipe), options.overrides)
    roster = load_roster(folder)
    silos = recipe.silo_names() or tuple(roster)
    here = [silo for silo in silos if (folder / f"{silo}.key").exists()]
    lacks = "the roster lacks silo {} of the recipe: add the line that 'fedclip silo-keys new' printed on its machine"
    faults = [lacks.format(printable(silo)) for silo in silos if silo not in roster]
    for silo in here:
        try:
            load_identity(folder, silo)
        except SiloKeysError as error:
            if silo in roster:  # else told of already
                faults.append(str(error))
    if not here:
        faults.append("no silo of the recipe has a key here: make one with 'fedclip silo-keys new NAME'")
    print(_table(folder, silos, here, roster))
    if not recipe.silo_names():
        print("the recipe does not name its silos: theirs are the names of their folders, compare them with these")
    if not recipe.fedclip_args.secure_sums:
        print("the recipe has no secure_sums (fedclip_args) as yet: so far it needs no keys")
    if faults:
        many = counted(len(faults), "fault")
        raise SiloKeysError("\n  ".join([f"{many} of the silo keys in {printable(str(folder))}", *faults]))
    print(f"keys are here for {', '.join(map(printable, here))}")


def _table(folder: Path, silos: Sequence[str], here: Sequence[str], roster: Mapping[str, PublicKey]) -> str:
    from fedclip_plugin.trust.silo_keys import fingerprint

    lines = [f"silo keys in {printable(str(folder))}"]
    width = max(map(len, map(printable, silos)))
    for silo in silos:
        found = fingerprint(roster[silo]) if silo in roster else "not on the roster"
        lines.append(f"  {printable(silo):{width}}  {'key here' if silo in here else '':8}  {found}")
    return "\n".join(lines)
