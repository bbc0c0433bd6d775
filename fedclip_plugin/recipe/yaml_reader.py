"""YAML as recipes use it: safe, one document, and a key given twice is a fault, not a silent overwrite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .faults import Fault, recipe_error


class _Loader(yaml.SafeLoader):
    """A safe loader that notes keys that a mapping gives twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[Fault] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping as the safe loader does, noting keys that stand in it twice."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in lines:
                    first = lines[key.value]
                    rule = f"{key.value!r} is already given in line {first}; keep one"
                    self.twice.append(Fault(f"line {line}", rule))
                lines.setdefault(key.value, line)
        return dict(super().construct_mapping(node, deep=deep))


def read_yaml(path: Path) -> tuple[dict[Any, Any], list[Fault]]:
    """Read a YAML file that holds one mapping.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        What it holds.
    list of Fault
        Keys given twice, with their lines.

    Raises
    ------
    RecipeError
        If the file is missing, unreadable, not UTF-8, not YAML, empty, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        fault = Fault(str(path), f"cannot be read ({reason}); `fedclip ls` lists the recipes that come along")
        raise recipe_error(path, [fault]) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, source: Path) -> tuple[dict[Any, Any], list[Fault]]:
    """Parse YAML text that holds one mapping.

    Parameters
    ----------
    text
        The YAML.
    source
        Where it came from, for the error's first line.

    Returns
    -------
    dict
        What it holds.
    list of Fault
        Keys given twice, with their lines.

    Raises
    ------
    RecipeError
        If it is malformed (with the line), empty, or not a mapping.
    """
    try:
        loader = _Loader(text)
        content = loader.get_single_data()
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise recipe_error(source, [_malformed(error)]) from error
    if not isinstance(content, dict):
        kind = "is empty" if content is None else f"holds a {type(content).__name__}"
        fault = Fault(source.name, f"{kind}; a recipe holds sections with keys, see `fedclip ls`")
        raise recipe_error(source, [fault])
    return content, loader.twice


def _malformed(error: Exception) -> Fault:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "YAML"
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    return Fault(where, f"malformed YAML: {problem}; mind indentation, colons, quotes and tabs")
