"""YAML as recipes need it: plain values only, and time and memory bounded whatever the text says."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import yaml

from fedclip_plugin.recipe.faults import Fault, show

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
