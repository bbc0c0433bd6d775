"""One image file to what is made of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.data.decoding.center_crop import CenterCrop
from fedclip_plugin.data.decoding.views import each_view
from fedclip_plugin.data.read_image import UnreadableImageError, read_image

Array = npt.NDArray[Any]
See = Callable[[Image.Image], Sequence[Array]]
"""From an RGB image to what is made of it: an array for each view that is asked for."""

Decoded: TypeAlias = tuple[Sequence[Array], str] | UnreadableImageError
"""What was made of a file and its digest, SHA-256 in hexadecimal; or the error that says why it cannot be read."""


@dataclass(frozen=True)
class ImageViews:
    """The centres of augmented views of an RGB image (0 is the image itself), uint8 ``[S, S, 3]`` each.

    Images of up to ``whole`` bytes are left as they are, ``[H, W, 3]``, for a device that resizes them. Plain data, so
    that another process can do it.
    """

    crop: CenterCrop
    views: tuple[int, ...] = (0,)
    whole: int = 0

    def __call__(self, image: Image.Image) -> list[npt.NDArray[np.uint8]]:
        """Return the levels of each view."""
        return [self._levels(seen) for seen in each_view(image, self.views)]

    def _levels(self, seen: Image.Image) -> npt.NDArray[np.uint8]:
        return np.asarray(seen) if 3 * seen.width * seen.height <= self.whole else self.crop(seen)


def decode(see: See, path: Path, sample_range: SampleRange | None = None) -> Decoded:
    """Return what ``see`` makes of one file."""
    try:
        image, stored = read_image(path, sample_range=sample_range)
    except UnreadableImageError as error:
        return error
    return see(image), stored.digest
