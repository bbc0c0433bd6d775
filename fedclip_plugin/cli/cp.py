"""``fedclip cp``: copy a recipe or a study that comes along, to edit it."""

from __future__ import annotations

import argparse
import os
import shlex

from fedclip_edge.arguments import path_argument
from fedclip_edge.files import write_file, writing_to
from fedclip_edge.terminal import printable
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.recipe import find_either, is_study, recipe_name


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="a name that 'fedclip ls' shows, or a file")
    parser.add_argument("file", type=path_argument, metavar="FILE", help="the copy, or a folder for it")
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")


def act(options: argparse.Namespace) -> int:
    """Copy a recipe or a study, say what to do next, and return the exit code.

    Raises
    ------
    FedClipError
        When there is no such recipe, or the file is there already.
    """
    source = find_either(options.recipe)
    target = options.file / source.name if options.file.is_dir() else options.file
    if os.path.lexists(target) and not options.force:
        raise FedClipError(f"{target} is there already: give another name, or --force to replace it")
    if not target.parent.is_dir():
        raise FedClipError(f"{target}: there is no folder {target.parent}: make it, or give another name")
    text, place = source.read_text(encoding="utf-8"), shlex.quote(printable(str(target)))
    text = text.replace(f"recipes/{recipe_name(source)}.yaml", place)  # its header says how to launch it
    with writing_to(target, FedClipError):
        write_file(target, text.encode())
    then = f"fedclip study {place} --dry-run" if is_study(target) else f"fedclip launch {place}"
    print(
        f"{printable(str(target))}: a copy of {printable(options.recipe)}; edit it (fedclip keys tells the keys), then"
    )
    print(f"  fedclip validate {place}\n  {then}")
    return 0
