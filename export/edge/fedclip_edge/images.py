"""Any image as upright RGB pixels, by one set of rules for training and for devices."""

from __future__ import annotations

import io
import re
import struct
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.errors import ImageError, MissingPackageError
from fedclip_edge.safe_files import open_plain

if TYPE_CHECKING:
    from PIL import Image

Pixels: TypeAlias = NDArray[np.uint8]
"""RGB, shape [H, W, 3], 0 to 255, C-contiguous."""

ImageLike: TypeAlias = "str | Path | bytes | bytearray | memoryview | Image.Image | NDArray[Any]"
"""A path, an encoded file's bytes, a PIL image, or an array uint8 [H, W, 3]."""

IMAGE_SUFFIXES: tuple[str, ...] = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
"""Suffixes, in lower case, of the files that count as images where a folder is read."""

MAX_PIXELS: int = 64_000_000
"""Largest image that is decoded, in pixels; the header is believed and nothing more is read.

The cost of one that large: 192 MB of RGB, and up to 0.7 GB beside it while it is preprocessed.
"""

MAX_ASPECT: int = 5_000
"""Longer over shorter side: the shorter one is resized to CLIP's input, and the longer one grows with it."""

WITH_ALPHA: tuple[str, ...] = ("RGBA", "LA", "PA", "RGBa", "La")
"""Pillow's modes of images with transparency."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_ORIENTATION = 0x0112
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
"""What makes an image upright, by EXIF orientation from 2 on."""


def read_rgb(image: ImageLike, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return an image as the pixels that CLIP's preprocessing starts from: RGB, uint8 [H, W, 3].

    Files are known by content: JPEG, PNG, WebP or BMP. EXIF orientation is applied, transparency is laid over white,
    greyscale, palette and CMYK become RGB, 16-bit samples keep their high byte, an animation its first frame. An array
    is taken as it is. More than `max_pixels`, width x height, are refused before anything is decoded. Safe to call from
    several threads, each with an image of its own.

    Raises
    ------
    ImageError
        The image is missing, empty, truncated, of another format or array type, or beyond the limits.
    MissingPackageError
        Pillow is not installed and the image is not an array.
    """
    name = str(image) if isinstance(image, str | Path) else f"({type(image).__name__})"
    try:
        if isinstance(image, np.ndarray):
            return _from_array(image, max_pixels)
        if _is_pil(image):
            _require_range(image)
            _check_size(*image.size, max_pixels)
            return np.array(upright_rgb(image))
        with _open_stream(image) as stream:
            return np.array(upright_rgb(open_image(stream, max_pixels)))
    except (MemoryError, MissingPackageError):  # not the image's fault
        raise
    except Exception as error:  # bad bytes make Pillow raise OSError, SyntaxError, struct.error, KeyError ...
        raise ImageError(f"cannot read image {name}: {reason(error)}") from error


def is_one_image(images: object) -> TypeGuard[ImageLike]:
    """Tell one image from many: paths, bytes, PIL images and arrays of less than four dimensions are one."""
    if isinstance(images, np.ndarray):
        return images.ndim < 4
    return isinstance(images, str | Path | bytes | bytearray | memoryview) or _is_pil(images)


def _is_pil(image: object) -> TypeGuard[Image.Image]:
    """Tell a PIL image without importing Pillow: who holds one has imported it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _require_range(image: Image.Image) -> None:
    if image.mode == "I" and image.format is None:
        raise ValueError(
            "a PIL image of mode I that comes from no file does not say how bright its numbers are; convert it to L, "
            "RGB or I;16"
        )


def _from_array(array: NDArray[Any], max_pixels: int) -> Pixels:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f"an array must be uint8 of shape [height, width, 3] in RGB order, not {array.dtype} "
            f"{list(array.shape)}; convert it, or give a path, bytes or a PIL image"
        )
    _check_size(array.shape[1], array.shape[0], max_pixels)
    return np.ascontiguousarray(array)


def _open_stream(image: object) -> BinaryIO:
    if isinstance(image, str | Path):
        if Path(image).is_dir():
            raise ValueError(f"it is a folder; give its files, such as {Path(image) / '*.jpg'}")
        return open_plain(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return io.BytesIO(image)
    raise TypeError("give a path, bytes, a PIL image, or an array uint8 [height, width, 3]")


def open_image(stream: BinaryIO, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an encoded image; its format and size are checked, and its pixels are not read yet.

    Raises ValueError when it is empty or beyond the limits, MissingPackageError without Pillow, and what Pillow raises
    of bad bytes: OSError, SyntaxError, struct.error, KeyError ...
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError(
            "decoding an image file needs Pillow: pip install 'fedclip-edge[image]', or give an array uint8 [H, W, 3]"
        ) from error
    _hush_pillow()
    if not stream.read(1):
        raise ValueError("it is empty (0 bytes)")
    stream.seek(0)
    image = Image.open(stream, formats=_FORMATS)
    _check_size(*image.size, max_pixels)
    return image


def _hush_pillow() -> None:
    """Keep Pillow's warnings off the console: of EXIF that cannot be parsed, of images that are refused anyway.

    They name a line of Pillow and no file. `warnings.catch_warnings` would be undone by another thread that decodes, so
    the filters stay; Pillow's deprecations still show.
    """
    from PIL import Image

    for kind in (UserWarning, Image.DecompressionBombWarning):
        if ("ignore", None, kind, re.compile("PIL"), 0) not in warnings.filters:
            warnings.filterwarnings("ignore", category=kind, module="PIL")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not width * height:
        raise ValueError(f"{width} x {height} pixels, so there is nothing in it")
    if width * height > max_pixels:
        raise ValueError(
            f"{width} x {height} pixels is more than the limit of {max_pixels / 1e6:g} million; make it smaller"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width} x {height} pixels is thinner than 1 to {MAX_ASPECT:,}; crop it")


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an image whose size was checked, and return it as upright RGB; raises what Pillow raises of bad bytes."""
    from PIL import Image

    image.load()
    rgb, orientation = _to_rgb(image), _orientation(image)
    if orientation not in range(2, 9):
        return rgb
    upright = rgb.transpose(Image.Transpose[_TURNS[orientation - 2]])
    upright.info.clear()  # transpose() hands the EXIF block on, and a later reader would rotate a second time
    return upright


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error):
        return 1  # metadata that cannot be parsed says nothing about pixels that can
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow clips at 255 where the high byte is meant
        wide = np.asarray(image, dtype=np.int64)
        return Image.fromarray(np.clip(wide >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "La":  # Pillow knows no way from it to RGBA
        image = image.convert("LA")
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def reason(error: Exception) -> str:
    """Return what is wrong with an image, from what was raised while it was read."""
    if type(error).__name__ == "UnidentifiedImageError":
        return "its content is not a JPEG, PNG, WebP or BMP image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
