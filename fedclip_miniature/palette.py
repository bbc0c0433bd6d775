"""Colours: the named ones of the captions, the natural coats of the classes, and palettes made from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedclip_miniature.shapes import Role

Colour = npt.NDArray[np.float64]
Palette = dict[Role, Colour]
RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (205, 48, 42), "orange": (236, 138, 44), "yellow": (242, 208, 76), "green": (74, 156, 76),
    "blue": (58, 104, 200), "purple": (134, 72, 172), "pink": (238, 150, 184), "brown": (136, 90, 54),
    "gray": (142, 143, 148), "black": (50, 48, 54), "white": (238, 236, 230),
}  # fmt: skip
"""The colour words that captions use."""

SKINS: tuple[RGB, ...] = ((242, 208, 178), (218, 168, 128), (168, 118, 84), (114, 78, 56))

COATS: dict[str, tuple[tuple[RGB, RGB], ...]] = {
    "dog": (
        ((176, 122, 72), (122, 78, 44)),
        ((222, 178, 112), (176, 126, 66)),
        ((66, 58, 58), (38, 34, 38)),
        ((232, 226, 214), (176, 130, 86)),
        ((128, 120, 116), (84, 78, 78)),
    ),
    "elephant": (
        ((148, 146, 150), (116, 113, 120)),
        ((128, 122, 118), (98, 92, 92)),
        ((168, 158, 150), (134, 124, 120)),
    ),
    "giraffe": (
        ((232, 190, 116), (150, 92, 46)),
        ((240, 206, 140), (168, 104, 48)),
        ((218, 172, 104), (116, 72, 40)),
    ),
    "guitar": (
        ((200, 130, 62), (140, 78, 34)),
        ((226, 170, 92), (160, 100, 48)),
        ((166, 54, 36), (104, 30, 24)),
        ((110, 66, 40), (70, 40, 26)),
    ),
    "horse": (
        ((142, 88, 52), (66, 42, 32)),
        ((178, 108, 58), (226, 190, 130)),
        ((84, 62, 52), (46, 36, 34)),
        ((226, 220, 210), (184, 176, 168)),
        ((150, 146, 146), (92, 88, 92)),
    ),
    "house": (
        ((226, 206, 170), (168, 74, 52)),
        ((238, 234, 224), (96, 104, 124)),
        ((190, 98, 74), (104, 62, 52)),
        ((170, 196, 206), (92, 84, 92)),
        ((234, 200, 120), (150, 70, 50)),
    ),
    "person": (
        ((198, 60, 56), (62, 78, 124)),
        ((70, 118, 180), (70, 66, 76)),
        ((240, 236, 226), (70, 90, 140)),
        ((92, 150, 100), (112, 88, 66)),
        ((240, 196, 84), (60, 62, 84)),
    ),
}  # fmt: skip
"""Natural (main, second) colours of the classes, for the domains that paint from life."""


def varied(rgb: RGB | Colour, rng: np.random.Generator, spread: float = 9.0) -> Colour:
    """Return the colour moved a little in brightness and, less, in hue; 0 to 255."""
    moved = np.asarray(rgb, dtype=np.float64) + rng.normal(0, spread) + rng.normal(0, spread * 0.6, 3)
    return np.clip(moved, 0, 255)


def make_palette(main: RGB | Colour, second: RGB | Colour | None, rng: np.random.Generator) -> Palette:
    """Complete a palette from its main colour; ``second`` None derives a darker one (of black, a lighter)."""
    first = varied(main, rng)
    bright = float(first.mean())
    shade = first * 0.68 if bright > 85 else first + 42
    return {
        "main": first,
        "second": shade if second is None else varied(second, rng),
        "dark": np.array((34.0, 31.0, 36.0)),
        "light": np.array((246.0, 244.0, 236.0)) if bright < 225 else np.array((186.0, 206.0, 226.0)),
        "wood": varied((122, 84, 52), rng, 6),
        "leaf": varied((76, 144, 66), rng, 8),
        "gold": varied((246, 186, 58), rng, 6),
        "skin": varied(SKINS[int(rng.integers(len(SKINS)))], rng, 5),
    }


def coat_palette(class_name: str, rng: np.random.Generator) -> Palette:
    """Make a palette of one of the natural coats of a class."""
    coats = COATS[class_name]
    main, second = coats[int(rng.integers(len(coats)))]
    return make_palette(main, second, rng)


def random_palette(rng: np.random.Generator) -> Palette:
    """Make a palette of any named colour, with an independent second colour half of the time."""
    names = list(COLOURS)
    first, other = (names[int(k)] for k in rng.choice(len(names), 2, replace=False))
    return make_palette(COLOURS[first], COLOURS[other] if rng.random() < 0.5 else None, rng)
