"""Any image as upright RGB pixels, by one set of rules for training and for devices."""

from __future__ import annotations

import io
import struct
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fedclip_edge import dicom_image, wide_samples
from fedclip_edge.errors import ImageError, MissingPackageError
from fedclip_edge.image_file import MAX_PIXELS, ImageFacts, ImageFile, check_size, hush
from fedclip_edge.safe_files import open_plain
from fedclip_edge.sample_range import SampleRange

if TYPE_CHECKING:
    from PIL import Image

Pixels: TypeAlias = NDArray[np.uint8]
"""RGB, shape [H, W, 3], 0 to 255, C-contiguous."""

ImageLike: TypeAlias = "str | Path | bytes | bytearray | memoryview | Image.Image | NDArray[Any]"
"""A path, an encoded file's bytes, a PIL image, or an array uint8 [H, W, 3]."""

IMAGE_SUFFIXES: tuple[str, ...] = (
    *(".bmp", ".dcm", ".dicom", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
)
"""Suffixes, in lower case, of the files that count as images where a folder is read."""

WITH_ALPHA: tuple[str, ...] = ("RGBA", "LA", "PA", "RGBa", "La")
"""Pillow's modes of images with transparency."""

FORMATS: str = "JPEG, PNG, WebP, BMP, TIFF or DICOM"
"""The formats that are read, as they are told."""

_BY_PILLOW = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION = 0x0112
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
"""What makes an image upright, by EXIF orientation from 2 on."""


def read_rgb(image: ImageLike, max_pixels: int = MAX_PIXELS, sample_range: SampleRange | None = None) -> Pixels:
    """Return an image as the pixels that CLIP's preprocessing starts from: RGB, uint8 [H, W, 3].

    Files are known by content: JPEG, PNG, WebP, BMP, TIFF or DICOM. EXIF orientation is applied, transparency is laid
    over white, greyscale, palette and CMYK become RGB; of an animation, a TIFF or a DICOM file the first frame counts.
    Samples of more than 8 bits are scaled by the rule of `fedclip_edge.sample_scaling`: by DICOM's window where there
    is one, else by `sample_range`, the values that are black and white, else by what the file says of their bits. An
    array is taken as it is, a PIL image of colours with the 8 bits that Pillow keeps. More than `max_pixels`, width x
    height, are refused before anything is decoded. Safe to call from several threads, each with an image of its own.

    Raises
    ------
    ImageError
        The image is missing, empty, truncated, of another format or array type, or beyond the limits.
    MissingPackageError
        Pillow is not installed and the image is not an array; pydicom is not and it is DICOM; or a DICOM file is
        compressed in a way that only a package that is not installed decodes.
    """
    name = str(image) if isinstance(image, str | Path) else f"({type(image).__name__})"
    try:
        if isinstance(image, np.ndarray):
            return _from_array(image, max_pixels)
        if _is_pil(image):
            _require_range(image, sample_range)
            check_size(*image.size, max_pixels)
            return np.array(_upright_rgb(image, None, sample_range))
        with _open_stream(image) as stream:
            return np.array(open_image(stream, max_pixels, sample_range).decode())
    except MissingPackageError as error:
        raise MissingPackageError(f"cannot read image {name}: {error}") from error
    except MemoryError:  # not the image's fault
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


def _require_range(image: Image.Image, sample_range: SampleRange | None) -> None:
    if image.mode in ("I", "F") and image.format is None and sample_range is None:
        raise ValueError(
            f"a PIL image of mode {image.mode} that comes from no file does not say how bright its numbers are; "
            "convert it to L, RGB or I;16, or set sample_range"
        )


def _from_array(array: NDArray[Any], max_pixels: int) -> Pixels:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            f"an array must be uint8 of shape [height, width, 3] in RGB order, not {array.dtype} "
            f"{list(array.shape)}; convert it, or give a path, bytes or a PIL image"
        )
    check_size(array.shape[1], array.shape[0], max_pixels)
    return np.ascontiguousarray(array)


def _open_stream(image: object) -> BinaryIO:
    if isinstance(image, str | Path):
        if Path(image).is_dir():
            raise ValueError(f"it is a folder; give its files, such as {Path(image) / '*.jpg'}")
        return open_plain(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return io.BytesIO(image)
    raise TypeError("give a path, bytes, a PIL image, or an array uint8 [height, width, 3]")


def open_image(stream: BinaryIO, max_pixels: int = MAX_PIXELS, sample_range: SampleRange | None = None) -> ImageFile:
    """Open an encoded image; its format and size are checked, and its pixels are not read yet.

    Raises ValueError when it is empty or beyond the limits, MissingPackageError without Pillow or pydicom, and what
    these raise of bad bytes: OSError, SyntaxError, struct.error, KeyError ...
    """
    head = stream.read(dicom_image.HEAD)
    if not head:
        raise ValueError("it is empty (0 bytes)")
    stream.seek(0)
    if dicom_image.is_dicom(head):
        return dicom_image.open_dicom(stream, max_pixels, sample_range)
    image = _open_by_pillow(stream, head)
    check_size(*image.size, max_pixels)
    wide_samples.mend_raw_mode(image)
    bits = wide_samples.sample_bits(image)
    rule = wide_samples.find_scale(image, sample_range).rule if bits > 8 else ""
    more = bool(getattr(image, "is_animated", False))
    facts = ImageFacts(str(image.format), image.mode, bits, rule, more)
    return ImageFile(facts, partial(_upright_rgb, image, stream, sample_range))


def _open_by_pillow(stream: BinaryIO, head: bytes) -> Image.Image:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingPackageError(
            "decoding an image file needs Pillow: pip install 'fedclip-edge[image]', or give an array uint8 [H, W, 3]"
        ) from error
    hush("PIL", Image.DecompressionBombWarning)
    try:
        return Image.open(stream, formats=_BY_PILLOW)
    except UnidentifiedImageError as error:
        if not head.startswith(_TIFF):
            raise
        raise ValueError(
            "it is a TIFF that is damaged, or whose samples Pillow does not read; save it as grey or RGB of 8 or 16 "
            "unsigned bits"
        ) from error


def _upright_rgb(image: Image.Image, stream: BinaryIO | None, sample_range: SampleRange | None) -> Image.Image:
    """Decode an image whose size was checked, and return it as upright RGB; raises what Pillow raises of bad bytes."""
    from PIL import Image

    if wide_samples.sample_bits(image) > 8:
        decoded = wide_samples.to_eight_bits(image, stream, wide_samples.find_scale(image, sample_range))
    else:
        image.load()
        decoded = image
    rgb, orientation = _to_rgb(decoded), _orientation(image)
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
        return f"its content is not a {FORMATS} image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    told = " ".join(str(error).split()) or type(error).__name__
    return f"its compressed pixels are damaged ({told})" if told.startswith("decoder error") else told
