"""Resize and centre crop of an image by PIL alone, as the backbones' processors do; no torch, no transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

HEIGHT_FIRST = int(PIL.__version__.split(".")[0]) >= 13
"""Whether this Pillow begins with the height where the height loses more than twice as many pixels as the width, as it
does since 13.0 (https://github.com/python-pillow/Pillow/pull/9549); before, the width always came first."""

Levels = npt.NDArray[np.uint8]
"""An image as the image tower sees it before it is normalised: RGB, ``[S, S, 3]``."""


@dataclass(frozen=True)
class CenterCrop:
    """Resize the shorter side to ``shorter`` pixels, by a filter of ``PIL.Image.Resampling``, and keep the centre.

    SigLIP's processors squash instead: both sides become S, whatever the image's shape, and nothing is cropped.
    """

    shorter: int
    side: int  # S of the square that is kept
    resample: int
    squash: bool = False
    half_even: bool = False  # an odd margin is halved to the even number, as torchvision does, not down

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self | None:
        """Return what an image processor does to an image; None where it does more, or something else."""
        size, crop = dict(settings["size"]), dict(settings.get("crop_size") or {})
        squash = not settings.get("do_center_crop") and size.keys() == {"height", "width"}
        if squash:
            crop, size = size, {"shortest_edge": size["height"]}
        own: tuple[Any, ...] = (size.get("shortest_edge"), crop.get("height"), settings["resample"])
        if not all(isinstance(number, int) for number in own):
            return None
        shorter, side, resample = map(int, own)
        cropped = squash or settings.get("do_center_crop")
        plain = settings["do_resize"] and cropped and not settings.get("do_pad")
        known = size == {"shortest_edge": shorter} and crop == {"height": side, "width": side}
        return cls(shorter, side, resample, squash) if plain and known and 0 < side <= shorter else None

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height that an image is resized to; the longer side is rounded down."""
        if self.squash:
            return self.side, self.side
        longer = self.shorter * max(width, height) // min(width, height)
        return (self.shorter, longer) if width <= height else (longer, self.shorter)

    def shrinks_height_first(self, width: int, height: int) -> bool:
        """Return whether PIL resizes along the height first, which shows, since levels are rounded in between."""
        wide, high = self.resized(width, height)
        return HEIGHT_FIRST and height - high > 2 * max(width - wide, 0)

    def __call__(self, image: Image.Image) -> Levels:
        """Return the levels of an RGB image."""
        width, height = self.resized(*image.size)
        left, top = self._margin(width), self._margin(height)
        resized = image.resize((width, height), Image.Resampling(self.resample))
        if resized.size != (self.side, self.side):
            resized = resized.crop((left, top, left + self.side, top + self.side))
        return np.asarray(resized)

    def _margin(self, resized: int) -> int:
        """Return what is cut off on the left or at the top."""
        surplus = resized - self.side
        return round(surplus / 2) if self.half_even else surplus // 2
