"""``fedclip keys``: what the keys of a recipe mean."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe.faults import closest
from fedclip_plugin.recipe.fedml_refusals import REFUSED_KEYS, REFUSED_SECTIONS, REFUSED_VALUES
from fedclip_plugin.recipe.reference import Key, meanings, plain, section_keys, section_meaning
from fedclip_plugin.recipe.schema.sections import SECTIONS, homes
from fedclip_plugin.text import plain_markdown

_WIDEST = 110
_CODE = re.compile(r"``([^`]+)``|`([^`]+)`")
_PAGE = """# Keys of a recipe

Every key by section, with what it takes, its default and its meaning. `fedclip keys --markdown` writes this page,
`fedclip keys KEY` tells one key, and `fedclip schema` prints the same for editors, as JSON schema. A relative path is
relative to the folder in which the command runs.

Keys marked with \\* may change when a run is resumed; all others define the run."""
_REFUSED_PAGE = """## FedML's keys that are refused

FedML 0.9.6 accepts these and gets them wrong or unsafe, so a recipe that holds one is refused, with the reason."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("key", nargs="?", metavar="KEY", help="a key, section.key, or a section; without: all of them")
    what.add_argument("--markdown", action="store_true", help="print the reference page of all keys as Markdown")


def act(options: argparse.Namespace) -> int:
    """Print what keys mean, and return the exit code.

    Raises
    ------
    RecipeError
        When neither a recipe nor FedML has a key or a section of that name.
    """
    if options.markdown:
        print(_page())
    elif options.key is None:
        print("\n\n".join(_section_text(section) for section in SECTIONS))
    else:
        print(_told(options.key))
    return 0


def _told(name: str) -> str:
    """Return what is known of a key, of FedML's that are refused too, or of a section."""
    section, _, key = name.rpartition(".")
    if name in SECTIONS:
        return _section_text(name)
    if places := [place for place in homes(key) if section in ("", place)]:
        return "\n\n".join(_key_text(found) for place in places for found in section_keys(place) if found.name == key)
    if reason := REFUSED_SECTIONS.get(name) or REFUSED_KEYS.get(key):
        return f"{name}: refused in a recipe\n{_wrapped([reason])}"
    if meaning := _study_key(name):
        return f"{name}: a key of a study's file, not of a recipe\n{_wrapped([plain(meaning)])}"
    keys = [key for model in SECTIONS.values() for key in model.model_fields]
    meant = closest(name, [*SECTIONS, *keys, *(f"{place}.{key}" for key in keys for place in homes(key))])
    hint = f" (did you mean {meant}?)" if meant else ""
    raise RecipeError(f"{printable(name)!r} is no key and no section of a recipe{hint}; fedclip keys lists them all")


def _study_key(name: str) -> str | None:
    """Return what a key of a study's file means; None where it has none of that name."""
    from fedclip_plugin.study.definition import Case, Study  # asked for last, and not at every start

    for model in (Study, Case):
        fields = {field.alias or own: own for own, field in model.model_fields.items()}
        if name in fields:
            return meanings(model)[fields[name]]
    return None


def _section_text(section: str) -> str:
    blocks = [f"{key.name}: {_takes(key)}\n{_wrapped([plain(key.meaning)])}" for key in section_keys(section)]
    head = textwrap.fill(f"{section}: {plain(section_meaning(section))}", _width(), subsequent_indent="    ")
    return "\n".join([head, textwrap.indent("\n".join(blocks), "  ")])


def _key_text(key: Key) -> str:
    refused = [f"{value} is refused: {reason}" for value, reason in key.refused.items()]
    resumed = f"A run that is resumed {'may have another value' if key.may_change else 'must have the same value'}."
    return f"{key.full_name}: {_takes(key)}\n{_wrapped([plain(key.meaning), *refused, resumed])}"


def _takes(key: Key) -> str:
    usual = {None: "required", "not set": "not set by default"}.get(key.default, f"default {key.default}")
    return f"{key.takes}; {usual}"


def _wrapped(paragraphs: Iterable[str]) -> str:
    return "\n".join(
        textwrap.fill(text, _width() - 2, initial_indent="    ", subsequent_indent="    ") for text in paragraphs
    )


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)


def _page() -> str:
    """Return the reference page: a heading a section, an anchor a key."""
    return "\n\n".join([_PAGE, *(block for section in SECTIONS for block in _section_page(section)), *_refused_page()])


def _section_page(section: str) -> Iterator[str]:
    yield f"## {section}"
    yield _marked(section_meaning(section))
    rows = [
        [
            f'<a id="{key.full_name}"></a>`{key.name}`' + (r" \*" if key.may_change else ""),
            plain_markdown(key.takes),
            _default(key),
            _marked(key.meaning),
        ]
        for key in section_keys(section)
    ]
    yield _table(["key", "takes", "default", "meaning"], rows)


def _default(key: Key) -> str:
    return {None: "*required*", "not set": "not set"}.get(key.default, f"`{key.default}`")


def _refused_page() -> Iterator[str]:
    yield _REFUSED_PAGE
    yield _reasons("section", REFUSED_SECTIONS)
    yield _reasons("key", REFUSED_KEYS)
    values = {f"{key}: {value}": why for key, reasons in REFUSED_VALUES.items() for value, why in reasons.items()}
    yield _reasons("value", values)


def _reasons(what: str, reasons: Mapping[str, str]) -> str:
    return _table([what, "why, and what to do"], [[f"`{name}`", plain_markdown(why)] for name, why in reasons.items()])


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _marked(meaning: str) -> str:
    """Return a docstring's text as Markdown: what it marks as code is code, and nothing else is a mark."""
    text, end = "", 0
    for code in _CODE.finditer(meaning):
        text += plain_markdown(meaning[end : code.start()]) + f"`{(code[1] or code[2]).replace('|', chr(92) + '|')}`"
        end = code.end()
    return text + plain_markdown(meaning[end:])
