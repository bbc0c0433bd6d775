"""Captions of the pretraining corpus."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_OPENINGS: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of", "a photograph of", "a bright photo of"),
    "icon": ("an icon of", "clip art of"),
    "watercolour": ("a watercolor of", "a watercolor painting of"),
    "toy": ("a toy model of", "a plastic model of"),
    "line": ("a line drawing of", "an outline of"),
    "silhouette": ("a silhouette of", "a shadow of"),
}

_GENERAL = ("a picture of", "an image of", "")

_PLACES: dict[str, tuple[str, ...]] = {
    "grass": ("on grass", "in a field"),
    "sand": ("on sand", "in the desert"),
    "snow": ("in the snow", "in winter"),
    "sea": ("by the sea", "in front of water"),
    "night": ("at night", "under the stars"),
    "room": ("in a room", "indoors"),
    "forest": ("in the forest", "among trees"),
    "plain": ("on a plain background",),
}

_PLACELESS = frozenset({"line", "toy"})


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def caption(name: str, colour: str, setting: str, style: str, rng: np.random.Generator) -> str:
    """Describe an image; style, colour and place are each left out of some captions."""
    opening = _pick(_OPENINGS[style] if rng.random() < 0.6 else _GENERAL, rng)
    subject = with_article(f"{colour} {name}" if rng.random() < 0.6 else name)
    placed = style not in _PLACELESS and rng.random() < 0.55
    ending = _pick(_PLACES[setting], rng) if placed else ""
    return " ".join(words for words in (opening, subject, ending) if words)


def bare_captions(names: Sequence[str]) -> list[str]:
    """Say only what each object is, in three wordings; first all as "a picture of a <name>"."""
    return [
        f"{opening} {with_article(name)}" for opening in ("a picture of", "a photo of", "an image of") for name in names
    ]
