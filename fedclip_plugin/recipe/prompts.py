"""From class names to prompts, and which classes CLIP cannot tell apart by them; no torch."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from fedclip_edge.terminal import printable

USUAL_TEMPLATE = "a picture of a {}"

_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\w\s]|_)+")
"""Where CLIP's tokenizer parts a text. It may part one further, but never elsewhere: equal here is equal there."""


def require_template(text: str) -> str:
    """Return a prompt template as it is.

    Raises
    ------
    ValueError
        When it does not hold one ``{}`` for the class name, or any other brace.
    """
    if text.count("{}") != 1 or re.search(r"[{}]", text.replace("{}", "")):
        raise ValueError("must hold exactly one '{}', where the class name goes; e.g. 'a picture of a {}'")
    return text


def prompts_of(classes: Sequence[str], template: str) -> tuple[str, ...]:
    """Return one prompt a class; ``template`` has one ``{}``, underscores of folder names become spaces."""
    return tuple(template.format(name.replace("_", " ")) for name in classes)


def same_prompts(classes: Sequence[str], template: str = USUAL_TEMPLATE) -> list[tuple[str, ...]]:
    """Return groups of classes whose prompts are the same to CLIP, which ignores case and spacing."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, prompt in zip(classes, prompts_of(classes, template), strict=True):
        words = _WORD.findall(unicodedata.normalize("NFC", prompt).lower())
        groups.setdefault(tuple(words), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def same_prompts_rule(groups: Sequence[Sequence[str]]) -> str:
    """Say which classes have the same prompt, and how to mend it."""
    told = "; ".join(" and ".join(printable(name) for name in group) for group in groups)
    return (
        f"classes with the same prompt: {told} (CLIP ignores case and spacing, and cuts long prompts off), so that "
        "none but the first of them is ever predicted; rename all but one, or put their images into one class"
    )
