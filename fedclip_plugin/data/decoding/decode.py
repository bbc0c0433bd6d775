"""One image file to what is made of its pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.data.decoding.center_crop import CenterCrop
from fedclip_plugin.data.decoding.views import augment
from fedclip_plugin.data.read_image import UnreadableImageError, read_image

Array = npt.NDArray[Any]
See = Callable[[Image.Image], Array]
"""From an RGB image to what is made of it."""

Decoded: TypeAlias = tuple[Array, str] | UnreadableImageError
"""What was made of a file and its digest, SHA-256 in hexadecimal; or the error that says why it cannot be read."""


@dataclass(frozen=True)
class ImageView:
    """The centre of an RGB image, or of one of its augmented views (0 is the image itself), uint8 ``[S, S, 3]``.

    Images of up to ``whole`` bytes are left as they are, ``[H, W, 3]``, for a device that resizes them. Plain data, so
    that another process can do it.
    """

    crop: CenterCrop
    view: int = 0
    whole: int = 0

    def __call__(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return the levels of an image."""
        seen = augment(image, self.view) if self.view else image
        return np.asarray(seen) if 3 * seen.width * seen.height <= self.whole else self.crop(seen)


def decode(see: See, path: Path, sample_range: SampleRange | None = None) -> Decoded:
    """Return what ``see`` makes of one file."""
    try:
        image, stored = read_image(path, sample_range=sample_range)
    except UnreadableImageError as error:
        return error
    return see(image), stored.digest
