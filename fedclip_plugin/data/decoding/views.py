"""Augmented views of an image: seen once each, encoded and cached like the image itself."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

AUGMENTATION_VERSION = 1
"""Raise it when a view of the same image would look different: cached views are encoded again then."""

_LEAST_AREA, _ASPECT = 0.6, 0.15
_MIRRORED, _JITTERED, _GREY = 0.5, 0.8, 0.2
_JITTER = (0.6, 1.4)


def augment(image: Image.Image, view: int) -> Image.Image:
    """Return one augmented view of an image; the same one for the same pixels, on any machine and with any seed.

    A random crop of 60 to 100 % of the area with an aspect ratio changed by up to ``e^0.15``, stretched to the image's
    size; mirrored with probability 0.5; brightness, contrast and colour scaled by 0.6 to 1.4 with probability 0.8;
    grey with probability 0.2.

    Parameters
    ----------
    image
        RGB, of any size.
    view
        Which view, from 1.
    """
    assert view >= 1, "0 is the image itself"
    return next(each_view(image, (view,)))


def each_view(image: Image.Image, views: Sequence[int]) -> Iterator[Image.Image]:
    """Yield some views of an RGB image one by one, as :func:`augment` draws them; 0 is the image itself."""
    checksum = zlib.crc32(image.tobytes()) if any(views) else 0
    for view in views:
        yield _augmented(image, np.random.default_rng([checksum, view])) if view else image


def _augmented(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    seen = _cropped(image, rng)
    if rng.random() < _MIRRORED:
        seen = ImageOps.mirror(seen)
    if rng.random() < _JITTERED:
        for quality in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            seen = quality(seen).enhance(rng.uniform(*_JITTER))
    if rng.random() < _GREY:
        seen = ImageOps.grayscale(seen).convert("RGB")
    return seen


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    side, stretch = math.sqrt(rng.uniform(_LEAST_AREA, 1)), math.exp(rng.uniform(-_ASPECT, _ASPECT))
    wide, high = min(width, width * side * stretch), min(height, height * side / stretch)
    left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
    box = (left, top, left + wide, top + high)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)
