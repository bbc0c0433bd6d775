"""Decode an image file to RGB, exactly and safely, whatever colour mode it is stored in."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from fedclip_edge.terminal import printable
from fedclip_plugin.data.unreadable_images import UnreadableImageError

IMAGE_SUFFIXES: tuple[str, ...] = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
"""Suffixes, in lower case, of the files that count as images."""

MAX_PIXELS: int = 64_000_000
"""Largest image that is decoded, in pixels: 192 MB of RGB; a header that promises more is refused unread."""

MAX_ASPECT: int = 5_000
"""Longer over shorter side: the shorter one is resized to CLIP's input, and the longer one grows with it."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_WIDE_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
_DARK = 64  # of 256: what 14 bits of 16 leave
_ORIENTATION_TAG = 0x0112
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Without O_NONBLOCK a named pipe would hold the reader for ever; O_BINARY is for Windows.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_UPRIGHT_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def suffix_of(file: str) -> str:
    """Return a file's suffix in lower case, with its dot."""
    return os.path.splitext(file)[1].lower()  # noqa: PTH122 (a Path per file is slow)


@dataclass(frozen=True)
class Stored:
    """How an image file holds its image.

    Attributes
    ----------
    format, mode
        ``JPEG``, ``PNG`` ...; ``L``, ``P``, ``CMYK`` ...
    size
        Width and height in pixels, upright.
    digest
        SHA-256 of the bytes that were decoded, in hexadecimal.
    low_bits
        How many bits the brightest of its 16-bit samples has, where that leaves a nearly black picture (8 to 14); None
        of other files.
    """

    format: str
    mode: str
    size: tuple[int, int]
    digest: str
    low_bits: int | None


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
        (A DataError.) The file is missing, a link to nowhere, no plain file, empty, truncated, not an image of
        these formats, or larger than `max_pixels`; the message names the file and the reason. It is never waited
        for: a named pipe is refused at once.
    """
    return read_image(path, max_pixels)[0]


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, Stored]:
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
        The upright RGB image, and what its file is.

    Raises
    ------
    UnreadableImageError
        As `open_rgb`.
    """
    with _reading(path), open_plain(path) as stream:
        image = _open_checked(stream, max_pixels)
        wide = _is_wide(image)
        image.load()
        rgb = _to_upright_rgb(image)
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return rgb, Stored(str(image.format), image.mode, rgb.size, digest, _low_bits(rgb) if wide else None)


def low_bits_of(path: Path) -> int | None:
    """Return `Stored.low_bits` of a file; one without 16-bit samples is not decoded.

    Raises
    ------
    UnreadableImageError
        As `open_rgb`.
    """
    with _reading(path), open_plain(path) as stream:
        image = _open_checked(stream, MAX_PIXELS)
        return _low_bits(_to_upright_rgb(image)) if _is_wide(image) else None


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file, be it through a link; anything else is refused without being opened, or waited for.

    Raises
    ------
    OSError
        When it cannot be opened.
    ValueError
        When it is no plain file.
    """
    _require_plain(path.stat())
    descriptor = os.open(path, _FLAGS)
    try:
        _require_plain(os.fstat(descriptor))  # another file may have taken its place
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into the error that names it."""
    _hush_pillow()
    try:
        yield
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # bad bytes make Pillow raise OSError, SyntaxError, struct.error ...
        raise UnreadableImageError(path, _reason(path, error)) from error


def _require_plain(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(found.st_mode)), "something else")
        raise ValueError(f"it is {kind}, not a plain file")


def _hush_pillow() -> None:
    """Keep Pillow's warnings off the console: of EXIF that cannot be parsed, of images that are refused anyway.

    They name a line of Pillow and no file. `warnings.catch_warnings` would be undone by another thread that decodes, so
    the filters stay; Pillow's deprecations still show.
    """
    for kind in (UserWarning, Image.DecompressionBombWarning):
        if ("ignore", None, kind, re.compile("PIL"), 0) not in warnings.filters:
            warnings.filterwarnings("ignore", category=kind, module="PIL")


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


def _is_wide(image: Image.Image) -> bool:
    """Return whether an image that is not loaded yet has 16-bit samples, and no transparency to lie on white."""
    tiles = getattr(image, "tile", ())
    stored = str(tiles[0][3]) if tiles else ""
    return (image.mode in _WIDE_MODES or ";16" in stored) and image.mode not in _ALPHA_MODES


def _low_bits(rgb: Image.Image) -> int | None:
    brightest = int(np.asarray(rgb).max())
    return 8 + brightest.bit_length() if brightest < _DARK else None


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


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its content is not a JPEG, PNG, WebP or BMP image"
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"it is a link to {printable(str(path.readlink()))}, which is not there"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
