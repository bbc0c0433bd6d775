"""YAML as recipes need it: one mapping of plain values, bounded in time and memory whatever the text says."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from fedclip_plugin.recipe.faults import Fault, brief, recipe_error, show

MOST_BYTES = 2**18
"""Largest file that is taken for a recipe; the longest that comes along has a fiftieth of it."""

_WANTED = "a recipe holds sections with keys, see `fedclip ls`"

MOST_DEPTH = 32
"""Levels of nesting; a study has seven."""

MOST_VALUES = 10_000
"""Values of one file, with every alias and merge key written out; long enough for lists of thousands of classes."""

MOST_KEYS = 5_000
"""Of those, keys of mappings: each unknown one is compared with all that there are."""

_TAGS = "tag:yaml.org,2002:"
_NAME = "put it in quotes if it is a name"
_SHAPES: dict[str, tuple[str, str]] = {
    "null": (r"(?i)null|~|", "no null; leave the tag out"),
    "bool": (r"(?i)true|false|yes|no|on|off", "neither true nor false; leave the tag out"),
    "int": (r"[-+]?(0|[1-9][0-9_]{,29})", f"no plain whole number: decimal, no leading zero, up to 30 digits; {_NAME}"),
    "float": (
        r"(?i)[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)(e[-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        f"no plain number, such as 0.001 or 1e-3; {_NAME}",
    ),
    "timestamp": (r"(?!)", "a date to YAML, and no key takes one; put it in quotes"),
    "value": (r"(?!)", "a sign of YAML's own; put it in quotes"),
    "merge": (r"(?!)", "a sign of YAML's own, which merges mappings; put it in quotes"),
}
"""Kind of scalar to what its text must look like, and what is said of any other. YAML 1.1 has more spellings, of which
``010`` for 8 and ``1:30`` for 90 are read wrong in silence."""

_KINDS: dict[type[yaml.Node], set[str]] = {
    yaml.ScalarNode: {_TAGS + kind for kind in ("str", *_SHAPES)},
    yaml.SequenceNode: {_TAGS + "seq"},
    yaml.MappingNode: {_TAGS + "map"},
}


class RecipeLoader(yaml.SafeLoader):
    """A safe loader for one document of plain values.

    Parameters
    ----------
    text
        The YAML. The caller bounds its length.

    Attributes
    ----------
    twice
        Keys that a mapping gives twice, with their lines.

    Notes
    -----
    An alias costs nothing to write and a whole copy to read, so every alias counts as what it stands for.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[Fault] = []
        self._depth = self._values = self._keys = 0
        self._sizes: dict[yaml.Node, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node as the safe loader does, and count it, its depth, and what its aliases stand for."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        values, keys = self._values, self._keys
        self._values += 1
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _refusal(f"is nested deeper than {MOST_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if node not in self._sizes:
                raise _refusal(f"the alias *{event.anchor} stands inside of what it stands for", event.start_mark)
            self._values, self._keys = values + self._sizes[node][0], keys + self._sizes[node][1]
        elif node is not None and node.tag not in _KINDS[type(node)]:
            tag = node.tag.replace(_TAGS, "!!")
            raise _refusal(f"the tag {show(tag)} is nothing for a recipe; leave it out", event.start_mark)
        elif isinstance(node, yaml.MappingNode):
            self._keys += len(node.value)
            self._note_twice(node)
        if self._values > MOST_VALUES or self._keys > MOST_KEYS:
            rule = f"holds more than {MOST_VALUES:,} values or {MOST_KEYS:,} keys, aliases and merge keys written out"
            raise _refusal(rule, event.start_mark)
        if node is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[node] = self._values - values, self._keys - keys
        return node

    def _note_twice(self, mapping: yaml.MappingNode) -> None:
        lines: dict[str, int] = {}
        for key, _ in mapping.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key must be a word, no list and no mapping", key.start_mark)
            if key.value in lines and key.value != "<<":
                rule = f"{key.value!r} is already given in line {lines[key.value]}; keep one"
                self.twice.append(Fault(f"line {line}", rule))
            lines.setdefault(key.value, line)


def control_character(text: str) -> str | None:
    """Return the first character of a text that no name, path or number has, escaped; None when there is none."""
    found = next((c for c in text if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\t\n"), None)
    return found and found.encode("unicode_escape").decode("ascii")


def _scalar(loader: RecipeLoader, node: yaml.ScalarNode) -> Any:
    text, kind = loader.construct_scalar(node), node.tag.removeprefix(_TAGS)
    pattern, rule = _SHAPES[kind]
    if not re.fullmatch(pattern, text):
        raise _refusal(f"{show(text)} is {rule}", node.start_mark)
    return yaml.SafeLoader.yaml_constructors[node.tag](loader, node)


def _text(loader: RecipeLoader, node: yaml.ScalarNode) -> str:
    text: str = loader.construct_scalar(node)
    if found := control_character(text):
        raise _refusal(f"the text holds the character {found}; take it out", node.start_mark)
    return text


def _refusal(rule: str, mark: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, rule, mark)


RecipeLoader.yaml_constructors = {
    **{_TAGS + kind: _scalar for kind in _SHAPES},
    **{_TAGS + kind: yaml.SafeLoader.yaml_constructors[_TAGS + kind] for kind in ("seq", "map")},
    _TAGS + "str": _text,
}
RecipeLoader.yaml_multi_constructors = {}


def read_yaml(path: Path, wanted: str = _WANTED) -> tuple[dict[Any, Any], list[Fault]]:
    """Read a YAML file that holds one mapping.

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
        content = read_plain(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise recipe_error(path, [Fault(str(path), f"cannot be read ({reason}); {wanted}")]) from error
    return parse_yaml(path, content, wanted)


def parse_yaml(path: Path, content: bytes, wanted: str = _WANTED) -> tuple[dict[Any, Any], list[Fault]]:
    """Do what `read_yaml` does with bytes that were read already; errors are told of ``path``."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise recipe_error(path, [Fault(str(path), "is not text in UTF-8; save it as UTF-8")]) from error
    try:
        loader = RecipeLoader(text)
        found = loader.get_single_data()
    except yaml.YAMLError as error:
        raise recipe_error(path, [_malformed(error, text)]) from error
    if not isinstance(found, dict):
        kind = "is empty" if found is None else f"holds a {type(found).__name__}"
        raise recipe_error(path, [Fault(path.name, f"{kind}; {wanted}")])
    return found, loader.twice


def read_plain(path: Path) -> bytes:
    """Return the bytes of an ordinary file that is not too large; opening anything else could wait for ever.

    An OSError or a ValueError says why it cannot be read.
    """
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
