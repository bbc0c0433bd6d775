"""``fedclip ls``: what comes with the package."""

from __future__ import annotations

import argparse

from fedclip_edge.terminal import printable
from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe import recipe_files, recipe_name, recipe_title, study_files


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--methods", action="store_true", help="list the methods, those of other packages included")


def act(options: argparse.Namespace) -> int:
    """Print recipes and studies, or methods, a line each; return the exit code."""
    rows = [(recipe_name(path), recipe_title(path)) for path in (*recipe_files(), *study_files())]
    if options.methods:
        rows = [(method.name, f"{method.title}: {method.trains}") for method in METHODS.values()]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(printable(f"{name.ljust(width)}  {text}"))
    return 0
