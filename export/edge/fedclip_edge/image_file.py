"""An image file that is open: how it holds its image, and its limits; its pixels are not read yet."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: int = 64_000_000
"""Largest image that is decoded, in pixels; the header is believed and nothing more is read.

The cost of one that large: 192 MB of RGB, and up to 0.7 GB beside it while it is preprocessed; 0.9 GB in all while
16-bit colours are scaled by a range.
"""

MAX_ASPECT: int = 5_000
"""Longer over shorter side: the shorter one is resized to CLIP's input, and the longer one grows with it."""


@dataclass(frozen=True)
class ImageFacts:
    """How an image file holds its image, as its header says.

    Attributes
    ----------
    format
        ``JPEG``, ``PNG``, ``WEBP``, ``BMP``, ``TIFF`` or ``DICOM``.
    mode
        Pillow's mode, such as ``L``, ``P`` or ``CMYK``; of DICOM the photometric interpretation.
    bits
        Bits of a sample; 8 where there are fewer.
    scaled_by
        The rule that makes 8 bits of samples, of `fedclip_edge.sample_scaling`; empty where they have 8 and no window.
    more_frames
        Whether there are more frames or pages than the first, which is the image.
    """

    format: str
    mode: str
    bits: int = 8
    scaled_by: str = ""
    more_frames: bool = False


@dataclass(frozen=True)
class ImageFile:
    """An open image file within the limits; `decode` returns it as upright RGB, and raises anything of bad bytes."""

    facts: ImageFacts
    decode: Callable[[], Image.Image]


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image without pixels or beyond the limits; a ValueError."""
    if not width * height:
        raise ValueError(f"{width} x {height} pixels, so there is nothing in it")
    if width * height > max_pixels:
        raise ValueError(
            f"{width} x {height} pixels is more than the limit of {max_pixels / 1e6:g} million; make it smaller"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width} x {height} pixels is thinner than 1 to {MAX_ASPECT:,}; crop it")


def hush(package: str, *kinds: type[Warning]) -> None:
    """Keep a decoder's warnings off the console: of metadata that cannot be parsed, of images that are refused anyway.

    They name a line of the package and no file. `warnings.catch_warnings` would be undone by another thread that
    decodes, so the filters stay; deprecations still show.
    """
    every: tuple[type[Warning], ...] = (UserWarning, *kinds)
    for kind in every:
        if ("ignore", None, kind, re.compile(package), 0) not in warnings.filters:
            warnings.filterwarnings("ignore", category=kind, module=package)
