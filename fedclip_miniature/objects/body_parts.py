"""What a drawing is made of: parts with a colour role, and the jitter that makes no two alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedclip_miniature.shapes import Points, ellipse

Role = Literal["main", "second", "dark", "light", "wood", "leaf", "gold", "skin"]


@dataclass(frozen=True)
class Part:
    """A union of outlines in one colour; later parts of a drawing cover earlier ones.

    Attributes
    ----------
    role
        Which colour of the palette fills the part.
    outlines
        Closed outlines, each [corners, 2]; their union is the part.
    """

    role: Role
    outlines: tuple[Points, ...]


def part(role: Role, *outlines: Points) -> Part:
    """Make a part from its outlines."""
    return Part(role, outlines)


def eye(x: float, y: float, radius: float = 0.032) -> list[Part]:
    """Draw an eye that looks to the right: a white disc and a dark pupil."""
    return [
        part("light", ellipse(x, y, radius * 1.5, radius * 1.5, corners=10)),
        part("dark", ellipse(x + radius * 0.35, y, radius, radius, corners=10)),
    ]


@dataclass(frozen=True)
class Jitter:
    """Random variation of an object's proportions.

    Attributes
    ----------
    rng
        Where the randomness comes from.
    amount
        0 draws every object alike, 1 varies lengths by about 14 %.
    """

    rng: np.random.Generator
    amount: float

    def near(self, value: float, spread: float = 0.14) -> float:
        """Return ``value`` times a factor near 1 with relative deviation ``amount * spread``."""
        return value * (1 + self.amount * spread * float(np.clip(self.rng.normal(), -2, 2)))

    def between(self, low: float, high: float) -> float:
        """Return a uniform number about the middle of the range, as wide as ``amount`` allows."""
        reach = (high - low) / 2 * min(self.amount, 1.5)
        return (low + high) / 2 + reach * float(self.rng.uniform(-1, 1))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.rng.random() < probability)
