"""PNG and TIFF images of more than 8 bits a sample, as Pillow reads them, made images of 8 bits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.sample_range import SampleRange, is_range
from fedclip_edge.sample_scaling import BY_RANGE, DECLARED, Scale, to_levels

if TYPE_CHECKING:
    from PIL import Image

RawMode: TypeAlias = "Callable[[str], str]"

_BITS, _PHOTOMETRIC, _PLANES, _KIND, _LOWEST, _HIGHEST = 258, 262, 284, 339, 340, 341  # tags of TIFF 6.0
_WHITE_IS_ZERO, _SEPARATE, _UNSIGNED = 0, 2, 1
_OF_LIBTIFF = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
"""libtiff gives samples in the machine's byte order; Pillow takes these for the file's, and would swap their bytes."""

_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""Pillow keeps the high byte of 16-bit colours; with the other byte order it keeps the low one."""

_ROWS = 256  # of 16-bit colours that are put together at once
_COLOURS = ("RGB;16", "RGBX;16", "RGBA;16")


def sample_bits(image: Image.Image) -> int:
    """Return the bits of a sample of an image that is not loaded yet; 8 where there are fewer."""
    if image.format == "TIFF":
        return max(8, *map(int, _tag(image, _BITS, (8,))))
    if image.mode == "F":
        return 32
    return 16 if image.mode == "I" or ";16" in image.mode + _raw_mode(image) else 8


def is_grey(image: Image.Image) -> bool:
    """Return whether Pillow holds the wide samples of an image whole, in one channel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def find_scale(image: Image.Image, sample_range: SampleRange | None) -> Scale:
    """Return what is black and white in an image of more than 8 bits: `sample_range`, or what the file itself says.

    That is SMinSampleValue and SMaxSampleValue in a TIFF that has them, else the bits of a sample. ValueError where
    the file does not say it: signed and floating-point samples.
    """
    if sample_range is not None:
        return Scale(*sample_range, BY_RANGE)
    kind = _tag(image, _KIND, (_UNSIGNED,))
    lowest, highest = _tag(image, _LOWEST, ()), _tag(image, _HIGHEST, ())
    if lowest and highest:
        low, high = float(min(lowest)), float(max(highest))
        if not is_range((low, high)):
            raise ValueError(f"its {DECLARED} are {low:g} and {high:g}, which is no range; set sample_range")
        return Scale(low, high, DECLARED)
    if kind[0] != _UNSIGNED or image.mode == "F":
        raise ValueError(
            f"its {sample_bits(image)}-bit samples are {'floating-point' if image.mode == 'F' else 'signed'} numbers, "
            "and the file does not say which are black and white; set sample_range (fedclip_args.sample_range in a "
            "recipe), such as [0, 1], or save it as 16-bit unsigned"
        )
    return Scale.of_bits(sample_bits(image))


def mend_raw_mode(image: Image.Image) -> None:
    """Correct, before it is loaded, how Pillow would read wide samples of a TIFF; ValueError where it cannot be."""
    tiles = getattr(image, "tile", ())
    codec = tiles[0][0] if tiles and image.format == "TIFF" and sample_bits(image) > 8 else ""
    if codec == "raw" and _tag(image, _PLANES, (1,))[0] == _SEPARATE:
        raise ValueError(
            "its colours of 16 bits lie in planes of their own, which is read of compressed TIFFs only; save it with "
            "interleaved colours (PlanarConfiguration 1)"
        )
    if codec == "libtiff":
        _set_raw_mode(image, lambda mode: _OF_LIBTIFF.get(mode, mode))


def to_eight_bits(image: Image.Image, stream: BinaryIO | None, scale: Scale) -> Image.Image:
    """Load an image of more than 8 bits, and return it as L, RGB or RGBA.

    Where Pillow keeps the high byte of colours and the scale asks for more, `stream` is decoded a second time.
    """
    from PIL import Image

    if is_grey(image):
        image.load()
        levels = to_levels(_grey_samples(image), scale.fraction)
        if image.format == "TIFF" and _tag(image, _PHOTOMETRIC, (_WHITE_IS_ZERO,))[0] == _WHITE_IS_ZERO:
            np.subtract(255, levels, out=levels)
        return Image.fromarray(levels)
    raw = _raw_mode(image)
    if (scale.low, scale.high) == (0, 65535) or stream is None:
        image.load()
        return image
    apart = _tag(image, _PLANES, (1,))[0] == _SEPARATE
    if apart or not raw.startswith(_COLOURS) or "transparency" in image.info:
        raise ValueError(
            f"its 16-bit samples ({raw}{', in planes of their own' * apart}) are scaled by their bit depth only, not "
            f"by {scale.rule}; save it as grey or interleaved RGB"
        )
    image.load()
    stream.seek(0)
    lower = Image.open(stream, formats=(str(image.format),))
    _set_raw_mode(lower, lambda mode: mode[:-1] + _OTHER_BYTE[mode[-1]])
    lower.load()
    levels = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
    for top in range(0, image.height, _ROWS):
        rows = (0, top, image.width, min(top + _ROWS, image.height))
        high, low = np.asarray(image.crop(rows)), np.asarray(lower.crop(rows))
        samples = (high[..., :3].astype(np.uint16) << 8) | low[..., :3]
        levels[top : rows[3], :, :3] = to_levels(samples, scale.fraction)
        levels[top : rows[3], :, 3:] = high[..., 3:]
    return Image.fromarray(levels)


def _grey_samples(image: Image.Image) -> NDArray[Any]:
    samples = np.asarray(image)
    if image.format == "TIFF" and image.mode == "I" and _tag(image, _KIND, (_UNSIGNED,))[0] == _UNSIGNED:
        return samples.view(np.uint32)  # Pillow has signed ones only
    return samples


def _tag(image: Image.Image, number: int, default: tuple[int, ...]) -> tuple[Any, ...]:
    """Return a tag of a TIFF; the default where it has none, or where the image is no TIFF."""
    found = getattr(image, "tag_v2", {}).get(number, default)
    return found if isinstance(found, tuple) else (found,)


def _raw_mode(image: Image.Image) -> str:
    """Return in which form the samples lie in the file, in Pillow's words; empty of an image that is loaded."""
    tiles = getattr(image, "tile", ())
    options = tiles[0][3] if tiles else ""
    return str(options if isinstance(options, str) else options[0])


def _set_raw_mode(image: Any, change: RawMode) -> None:
    image.tile = [_with_raw_mode(tile, change) for tile in image.tile]


def _with_raw_mode(tile: Any, change: RawMode) -> Any:
    codec, box, offset, options = tile
    new = change(options) if isinstance(options, str) else (change(options[0]), *options[1:])
    return tile._replace(args=new) if hasattr(tile, "_replace") else (codec, box, offset, new)
