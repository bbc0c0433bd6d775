"""``fedclip schema``: the JSON schema of recipes, for editors."""

from __future__ import annotations

import argparse
import json


def add(parser: argparse.ArgumentParser) -> None:
    """Add no argument: the command has none."""


def act(options: argparse.Namespace) -> int:
    """Print the JSON schema (draft 2020-12) of recipes, and return the exit code."""
    from fedclip_plugin.recipe.reference import json_schema

    print(json.dumps(json_schema(), indent=1))
    return 0
