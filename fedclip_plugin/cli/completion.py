"""``fedclip completion``: let a shell complete commands, options, recipes and keys.

The script that it prints calls ``fedclip`` itself at each press of the tabulator key; :func:`complete` answers.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from fedclip_plugin.errors import FedClipError


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    told = "eval the script in ~/.bashrc or, after compinit, in ~/.zshrc; for fish: fedclip completion fish | source"
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help=told)


def act(options: argparse.Namespace) -> int:
    """Print the shell's script, which is to be read at its start, and return the exit code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["fedclip"], shell=options.shell))
    return 0


def complete() -> None:
    """Answer the script's question what may stand in an unfinished command line, and end the process."""
    import argcomplete

    from fedclip_plugin.cli.command_table import COMMANDS
    from fedclip_plugin.cli.main import build_parser

    command = [word for word in os.environ["COMP_LINE"].split()[1:2] if word in COMMANDS]
    parser = build_parser(command)
    for action in _actions(parser):
        if isinstance(action.metavar, str) and action.metavar in _COMPLETERS:
            action.completer = _COMPLETERS[action.metavar]  # type: ignore[attr-defined]  # argcomplete looks for it
    argcomplete.autocomplete(parser, always_complete_options=False, print_suppressed=True)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)


def _recipes(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    from fedclip_plugin.recipe import recipe_files, recipe_name, study_files

    files = [*recipe_files(), *(study_files() if parsed_args.command in ("cp", "validate") else ())]
    return [*map(recipe_name, files), *_yaml_files(prefix)]


def _studies(prefix: str, **_: Any) -> list[str]:
    from fedclip_plugin.recipe import recipe_name, study_files

    return [*map(recipe_name, study_files()), *_yaml_files(prefix)]


def _yaml_files(prefix: str) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    return FilesCompleter(("yaml", "yml"))(prefix)


def _cases(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    from fedclip_plugin.recipe import find_study
    from fedclip_plugin.recipe.yaml_reader import read_yaml

    with suppress(FedClipError):  # no study yet, or a faulty one: nothing to offer
        return [str(case) for case in read_yaml(find_study(parsed_args.study))[0].get("cases") or ()]
    return []


def _silos(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    from fedclip_plugin.federated.members import names_of_silos
    from fedclip_plugin.recipe import find_recipe, load_recipe

    with suppress(FedClipError):  # no recipe yet, or a faulty one, or names that only other machines know
        return list(names_of_silos(load_recipe(find_recipe(parsed_args.recipe), parsed_args.overrides)))
    return []


def _keys(**_: Any) -> list[str]:
    from fedclip_plugin.recipe.schema.sections import SECTIONS

    return [*SECTIONS, *(key for model in SECTIONS.values() for key in model.model_fields)]


def _settings(**_: Any) -> list[str]:
    from fedclip_plugin.recipe.schema.sections import SECTIONS

    return [f"{section}.{key}=" for section, model in SECTIONS.items() for key in model.model_fields]


def _methods(**_: Any) -> list[str]:
    from fedclip_plugin.methods.registry import METHODS

    return list(METHODS)


_COMPLETERS: Mapping[str, Callable[..., Iterable[str]]] = {
    "RECIPE": _recipes,
    "STUDY": _studies,
    "CASE": _cases,
    "KEY": _keys,
    "METHOD": _methods,
    "SILO": _silos,
    "SECTION.KEY=VALUE": _settings,
}
"""By what the help calls an argument; all others are files."""
