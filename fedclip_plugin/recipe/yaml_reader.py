"""Files of YAML as recipes use it: safe, one mapping, bounded, and a key given twice is a fault."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import yaml

from fedclip_plugin.recipe.faults import Fault, brief, recipe_error
from fedclip_plugin.recipe.yaml_loader import RecipeLoader

MOST_BYTES = 2**18
"""Largest file that is taken for a recipe; the longest that comes along has a fiftieth of it."""

_WANTED = "a recipe holds sections with keys, see `fedclip ls`"


def read_yaml(path: Path, wanted: str = _WANTED) -> tuple[dict[Any, Any], list[Fault]]:
    """Read a YAML file that holds one mapping.

    Parameters
    ----------
    path
        The file.
    wanted
        What should be there, for the error.

    Returns
    -------
    dict
        What it holds.
    list of Fault
        Keys given twice, with their lines.

    Raises
    ------
    RecipeError
        If the file is missing, no ordinary file, unreadable, too large, not UTF-8, malformed or refused by
        `RecipeLoader` (with the line), empty, or not a mapping.
    """
    try:
        text = _read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise recipe_error(path, [Fault(str(path), "is not text in UTF-8; save it as UTF-8")]) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise recipe_error(path, [Fault(str(path), f"cannot be read ({reason}); {wanted}")]) from error
    try:
        loader = RecipeLoader(text)
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        raise recipe_error(path, [_malformed(error, text)]) from error
    if not isinstance(content, dict):
        kind = "is empty" if content is None else f"holds a {type(content).__name__}"
        raise recipe_error(path, [Fault(path.name, f"{kind}; {wanted}")])
    return content, loader.twice


def _read(path: Path) -> bytes:
    """Return the bytes of an ordinary file that is not too large; opening anything else could wait for ever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(0, "Is a directory" if stat.S_ISDIR(mode) else "not an ordinary file")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(0, f"more than {MOST_BYTES // 1024} kB, which no recipe has")
    return content


def _malformed(error: yaml.YAMLError, text: str) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return Fault(f"line {line}", f"malformed YAML: holds the character {chr(error.character)!a}; take it out")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "YAML"
    problem = brief(" ".join(str(getattr(error, "problem", None) or error).split()))
    if isinstance(error, yaml.constructor.ConstructorError):
        return Fault(where, problem)
    return Fault(where, f"malformed YAML: {problem}; mind indentation, colons, quotes and tabs")
