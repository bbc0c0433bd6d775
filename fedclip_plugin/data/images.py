"""Decode an image file to RGB, exactly and safely, whatever colour mode it is stored in."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from fedclip_plugin.data.unreadable import UnreadableImageError

IMAGE_SUFFIXES: tuple[str, ...] = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
"""Suffixes, in lower case, of the files that count as images."""

MAX_PIXELS: int = 64_000_000
"""Largest image that is decoded, in pixels: 192 MB of RGB; a header that promises more is refused unread."""

MAX_ASPECT: int = 5_000
"""Longer over shorter side: the shorter one is resized to CLIP's input, and the longer one grows with it."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_ORIENTATION_TAG = 0x0112
_UPRIGHT_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_rgb(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read one image file as an upright RGB image.

    JPEG, PNG, WebP and BMP are known by their content, not by their suffix. EXIF (or XMP) orientation is
    applied; transparency is laid over white; greyscale, palette and CMYK are converted; of 16-bit samples the
    high byte is kept; of an animation the first frame. Colour profiles are not applied, as CLIP's own
    preprocessing does not. JPEG is always decoded at full size. Safe to call from several threads.

    Parameters
    ----------
    path
        The image file.
    max_pixels
        Largest width x height that is decoded.

    Returns
    -------
    PIL.Image.Image
        Mode ``RGB``, decoded, with its file closed.

    Raises
    ------
    UnreadableImageError
        (A DataError.) The file is missing, empty, truncated, not an image of these formats, or larger than
        `max_pixels`; the message names the file and the reason.
    """
    return open_image(path, max_pixels)[0]


def open_image(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, str, str]:
    """Read one image file as `open_rgb` does, and say how it was stored.

    Parameters
    ----------
    path
        The image file.
    max_pixels
        Largest width x height that is decoded.

    Returns
    -------
    tuple
        The upright RGB image, the file's format (``JPEG``, ``PNG`` ...) and its colour mode (``L``, ``P``,
        ``CMYK`` ...).

    Raises
    ------
    UnreadableImageError
        As `open_rgb`.
    """
    try:
        with path.open("rb") as stream:
            image = _open_checked(stream, max_pixels)
            image.load()
            return _to_upright_rgb(image), str(image.format), image.mode
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # bad bytes make Pillow raise OSError, SyntaxError, struct.error ...
        raise UnreadableImageError(path, _reason(error)) from error


def _open_checked(stream: BinaryIO, max_pixels: int) -> Image.Image:
    if not stream.read(1):
        raise ValueError("the file is empty (0 bytes)")
    stream.seek(0)
    image = Image.open(stream, formats=_FORMATS)
    width, height = image.size
    if width * height > max_pixels:
        raise ValueError(
            f"{width} x {height} pixels is more than the limit of {max_pixels / 1e6:g} million; make it smaller"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width} x {height} pixels is thinner than 1 to {MAX_ASPECT:,}; crop it")
    return image


def _to_upright_rgb(image: Image.Image) -> Image.Image:
    rotation = _UPRIGHT_BY_ORIENTATION.get(_orientation(image))
    rgb = _to_rgb(image)
    if rotation is None:
        return rgb
    upright = rgb.transpose(rotation)
    upright.info.clear()  # transpose() hands the EXIF block on, and a later reader would rotate a second time
    return upright


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error):
        return 1  # metadata that cannot be parsed says nothing about pixels that can
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _WIDE_MODES:  # Pillow's own conversion clips at 255 instead of scaling
        high_byte = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255)
        return Image.fromarray(high_byte.astype(np.uint8)).convert("RGB")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its content is not a JPEG, PNG, WebP or BMP image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
