"""Resize and centre crop of an image by PIL alone, as CLIP's processors do; no torch, no transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

HEIGHT_FIRST = int(PIL.__version__.split(".")[0]) >= 13
"""Whether this Pillow shrinks images more than twice as tall as wide along the height first, as it does since 13.0
(https://github.com/python-pillow/Pillow/pull/9549); before, the width always came first."""

Levels = npt.NDArray[np.uint8]
"""An image as the image tower sees it before it is normalised: RGB, ``[S, S, 3]``."""


@dataclass(frozen=True)
class CenterCrop:
    """Resize the shorter side to ``shorter`` pixels, by a filter of ``PIL.Image.Resampling``, and keep the centre."""

    shorter: int
    side: int  # S of the square that is kept
    resample: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self | None:
        """Return what an image processor does to an image; None where it does more, or something else."""
        size, crop = dict(settings["size"]), dict(settings["crop_size"])
        own: tuple[Any, ...] = (size.get("shortest_edge"), crop.get("height"), settings["resample"])
        if not all(isinstance(number, int) for number in own):
            return None
        shorter, side, resample = map(int, own)
        plain = settings["do_resize"] and settings["do_center_crop"] and not settings.get("do_pad")
        known = size == {"shortest_edge": shorter} and crop == {"height": side, "width": side}
        return cls(shorter, side, resample) if plain and known and 0 < side <= shorter else None

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height that an image is resized to; the longer side is rounded down."""
        longer = self.shorter * max(width, height) // min(width, height)
        return (self.shorter, longer) if width <= height else (longer, self.shorter)

    def shrinks_height_first(self, width: int, height: int) -> bool:
        """Return whether PIL resizes along the height first, which shows, since levels are rounded in between."""
        return HEIGHT_FIRST and height > 2 * width and width > self.shorter

    def __call__(self, image: Image.Image) -> Levels:
        """Return the levels of an RGB image."""
        width, height = self.resized(*image.size)
        left, top = (width - self.side) // 2, (height - self.side) // 2
        resized = image.resize((width, height), Image.Resampling(self.resample))
        if resized.size != (self.side, self.side):
            resized = resized.crop((left, top, left + self.side, top + self.side))
        return np.asarray(resized)
