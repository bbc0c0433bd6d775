"""A posed and coloured object in its place: what every style turns into an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedclip_miniature.canvas import CANVAS, Labels, Plane, labels
from fedclip_miniature.objects.catalogue import OBJECTS, UPRIGHT
from fedclip_miniature.palette import Palette
from fedclip_miniature.shapes import Jitter, Part, Points

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pose:
    """How an object may stand on the canvas."""

    turn: float  # largest rotation either way, radians
    smallest: float  # of the object's longer side, as a share of the canvas
    largest: float
    warp: float = 0.0  # smooth distortion: 0 leaves the shape as it is, 1 bends it visibly


def _moved(parts: list[Part], move: Callable[[Points], Points]) -> list[Part]:
    outlines = [outline for item in parts for outline in item.outlines]
    stops = np.cumsum([len(outline) for outline in outlines])[:-1]
    pieces = iter(np.split(move(np.concatenate(outlines)), stops))
    return [Part(item.role, tuple(next(pieces) for _ in item.outlines)) for item in parts]


def bounding_box(parts: list[Part]) -> Box:
    """Return (left, top, right, bottom) of all outlines, in their own units."""
    points = np.concatenate([outline for item in parts for outline in item.outlines])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _warped(points: Points, warp: float, rng: np.random.Generator) -> Points:
    phase, pace = rng.uniform(0, 2 * np.pi, (2, 2)), rng.uniform(1.2, 2.6, (2, 2))
    bend = np.sin(points[:, None, ::-1] * pace + phase).mean(axis=1)
    taper = 1 + 0.18 * warp * rng.normal() * points[:, 1:]
    bent: Points = (points + 0.17 * warp * bend) * taper
    return bent


def place(parts: list[Part], pose: Pose, upright: bool, rng: np.random.Generator) -> list[Part]:
    """Pose an object drawn in units of about -1 to 1, and move it into canvas pixels, wholly inside.

    What stands upright leans about a third as far as the pose allows.
    """
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    turn = rng.uniform(-pose.turn, pose.turn) * (0.35 if upright else 1.0)
    cos, sin = np.cos(turn), np.sin(turn)
    stretch = np.exp(rng.uniform(-1, 1) * (0.06 + 0.1 * pose.warp))

    def posed(points: Points) -> Points:
        """Return points ``[n, 2]`` warped, mirrored, stretched and turned."""
        bent = _warped(points, pose.warp, rng) if pose.warp else points
        spread = bent * np.array((mirror * stretch, 1 / stretch))
        turned: Points = spread @ np.array(((cos, sin), (-sin, cos)))
        return turned

    standing = _moved(parts, posed)
    left, top, right, bottom = bounding_box(standing)
    scale = CANVAS * rng.uniform(pose.smallest, pose.largest) / max(right - left, bottom - top)
    room = (CANVAS - scale * np.array((right - left, bottom - top))) / 2
    centre = CANVAS / 2 + room * rng.uniform((-0.55, -0.2), (0.55, 0.7))
    middle = np.array(((left + right) / 2, (top + bottom) / 2))
    return _moved(standing, lambda points: (points - middle) * scale + centre)


@dataclass(frozen=True)
class Drawing:
    """A posed object with its colours and its place."""

    parts: list[Part]  # in canvas pixels, in painting order
    label: Labels  # which part each canvas pixel shows, from 1; 0 is the ground
    palette: Palette
    setting: str  # the background, of `scenery.SETTINGS`

    @property
    def mask(self) -> Plane:
        """The silhouette, 1 inside and 0 outside, [CANVAS, CANVAS]."""
        return (self.label > 0).astype(np.float32)

    @property
    def box(self) -> Box:
        """(left, top, right, bottom) of the object in canvas pixels."""
        return bounding_box(self.parts)


Style = Callable[[Drawing, np.random.Generator], npt.NDArray[np.uint8]]
"""What a style is: drawing and generator in, [64, 64, 3] image out."""


def draw(name: str, palette: Palette, setting: str, pose: Pose, variety: float, rng: np.random.Generator) -> Drawing:
    """Draw an object of `OBJECTS`, posed and coloured; ``variety`` is the amount of its `Jitter`."""
    parts = place(OBJECTS[name](Jitter(rng, variety)), pose, name in UPRIGHT, rng)
    return Drawing(parts, labels(parts), palette, setting)
