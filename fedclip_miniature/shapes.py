"""What a drawing is made of: closed outlines, coloured parts of them, and the jitter that makes no two alike.

Outlines are arrays of corners, x to the right and y downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Point = tuple[float, float]
Role = Literal["main", "second", "dark", "light", "wood", "leaf", "gold", "skin"]


def ellipse(cx: float, cy: float, rx: float, ry: float, turn: float = 0.0, corners: int = 22) -> Points:
    """Outline of an ellipse about (cx, cy), turned by ``turn`` radians; returns [corners, 2]."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    x, y = rx * np.cos(angle), ry * np.sin(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([cx + cos * x - sin * y, cy + sin * x + cos * y], axis=1)


def dome(cx: float, cy: float, rx: float, ry: float, corners: int = 14) -> Points:
    """Outline of the upper half of an ellipse with its flat side at ``cy``; returns [corners, 2]."""
    angle = np.linspace(np.pi, 2 * np.pi, corners)
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=1)


def polygon(*points: Point) -> Points:
    """Outline with the given corners; returns [len(points), 2]."""
    return np.array(points, dtype=np.float64)


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """Outline of an upright rectangle; returns [4, 2]."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def capsule(start: Point, end: Point, radius: float, end_radius: float | None = None) -> Points:
    """Outline of a round-ended bar whose radius runs from ``radius`` to ``end_radius``; returns [14, 2]."""
    last = radius if end_radius is None else end_radius
    heading = np.arctan2(end[1] - start[1], end[0] - start[0])
    half = np.linspace(np.pi / 2, 3 * np.pi / 2, 7)
    tail, nose = heading + half, heading + half - np.pi
    return np.concatenate(
        [
            np.stack([start[0] + radius * np.cos(tail), start[1] + radius * np.sin(tail)], axis=1),
            np.stack([end[0] + last * np.cos(nose), end[1] + last * np.sin(nose)], axis=1),
        ]
    )


def spline(points: Sequence[Point] | Points, closed: bool, steps: int = 4) -> Points:
    """Catmull-Rom curve through ``points``, ``steps`` samples per stretch; returns [M, 2]."""
    knots = np.asarray(points, dtype=np.float64)
    ring = np.concatenate([knots[-1:], knots, knots[:2]] if closed else [knots[:1], knots, knots[-1:]])
    a, b, c, d = (ring[i : len(ring) - 3 + i, None, :] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    smooth: Points = 0.5 * curve.reshape(-1, 2)
    return smooth if closed else np.concatenate([smooth, knots[-1:]])


def blob(*points: Point) -> Points:
    """Smooth closed outline through the given points; returns [4 * len(points), 2]."""
    return spline(points, closed=True)


def tube(points: Sequence[Point], radius: float, end_radius: float) -> Points:
    """Outline of a smooth tapered tube along ``points`` (tails, trunks, handles); returns [M, 2]."""
    centre = spline(points, closed=False)
    along = np.gradient(centre, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    half = np.linspace(radius, end_radius, len(centre))[:, None]
    nose = centre[-1:] + along[-1:] * end_radius
    return np.concatenate([centre + across * half, nose, (centre - across * half)[::-1]])


@dataclass(frozen=True)
class Part:
    """A union of closed outlines, each [corners, 2], in one colour; later parts of a drawing cover earlier ones."""

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
    """Random variation of an object's proportions: amount 0 draws all alike, 1 varies lengths by about 14 %."""

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
