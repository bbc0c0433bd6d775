"""A posed and coloured object in its place: what every style turns into an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedclip_miniature.canvas import Labels, Plane, labels
from fedclip_miniature.objects.body_parts import Jitter, Part
from fedclip_miniature.objects.catalogue import OBJECTS, UPRIGHT
from fedclip_miniature.palette import Palette
from fedclip_miniature.place import Box, Pose, bounding_box, place


@dataclass(frozen=True)
class Drawing:
    """A posed object with its colours and its place.

    Attributes
    ----------
    parts
        The object's parts in canvas pixels, in painting order.
    label
        Which part each canvas pixel shows, from 1; 0 is the ground. [CANVAS, CANVAS]
    palette
        The colours of the parts.
    setting
        Name of the background, one of `scenery.SETTINGS`.
    """

    parts: list[Part]
    label: Labels
    palette: Palette
    setting: str

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
