"""``fedclip policy``: hold a recipe against this machine's silo policy, or print one to start from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fedclip_edge.arguments import path_argument
from fedclip_edge.terminal import printable
from fedclip_plugin.cli.options import add_overrides
from fedclip_plugin.errors import PolicyError

if TYPE_CHECKING:
    from fedclip_plugin.trust.policy_check import Asked

_WHAT = {
    "check": "hold a recipe against this machine's silo policy; exit code 2 when it refuses",
    "example": "print a silo policy to start from",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's own commands."""
    choices = parser.add_subparsers(required=True, metavar="COMMAND", dest="policy", help=", ".join(_WHAT))
    own = {
        name: choices.add_parser(name, prog=f"fedclip policy {name}", help=what, description=what)
        for name, what in _WHAT.items()
    }
    for command in own.values():
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    check = own["check"]
    check.add_argument("recipe", metavar="RECIPE", help="a file, or a name that 'fedclip ls' shows")
    check.add_argument(
        "--run",
        dest="run_dir",
        type=path_argument,
        metavar="DIR",
        help="run folder (default: runs/ and the recipe's name)",
    )
    add_overrides(check, "override a key")


def act(options: argparse.Namespace) -> int:
    """Print the example, or the verdict on a recipe.

    Raises
    ------
    PolicyError
        There is no policy, it cannot be used, or it refuses the recipe.
    """
    from fedclip_plugin.trust.silo_policy import example_policy, find_policy, load_policy, places_told

    if options.policy == "example":
        print(example_policy(), end="")
        return 0
    from fedclip_plugin.trust.policy_check import recipe_violations, refusal

    place = find_policy()
    if place is None:
        raise PolicyError(
            f"this machine has no silo policy (looked for in {places_told()}): the recipe alone says what leaves it; "
            "'fedclip policy example' prints one"
        )
    file = load_policy(place)
    asked = _asked(options)
    fingerprint = asked.fingerprint or "not known: its files are not on this machine"
    backbone = printable(asked.recipe.fedclip_args.backbone)
    print(f"policy {printable(str(file.path))}, SHA-256 {file.sha256}\nbackbone {backbone}, fingerprint {fingerprint}")
    if violations := recipe_violations(file.policy, asked):
        raise refusal(file, f"the recipe of run {asked.run}", violations)
    print(f"allowed: {printable(options.recipe)} as run {printable(asked.run)}")
    return 0


def _asked(options: argparse.Namespace) -> Asked:
    from fedclip_plugin.federated.startup.silo_egress import asked_of
    from fedclip_plugin.recipe import default_run_dir, find_recipe, load_recipe

    path = find_recipe(options.recipe)
    recipe = load_recipe(path, options.overrides)
    folder: Path = options.run_dir or recipe.fedclip_args.run_dir or default_run_dir(path)
    return asked_of(recipe, folder.name)
