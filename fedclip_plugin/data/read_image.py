"""Image files of a data set: how one is stored, and the errors for those that cannot be used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fedclip_edge.errors import MissingPackageError
from fedclip_edge.image_file import MAX_PIXELS, ImageFacts
from fedclip_edge.images import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from fedclip_edge.images import WITH_ALPHA, open_image, reason
from fedclip_edge.safe_files import open_plain
from fedclip_edge.sample_range import SampleRange
from fedclip_edge.sample_scaling import BIT_DEPTH
from fedclip_edge.terminal import printable
from fedclip_plugin.errors import DataError

_DARK = 64  # of 256: what 14 bits of 16 leave


class UnreadableImageError(DataError):
    """An image file that is missing, no plain file, empty, truncated, too large, or no image.

    Only this error is what ``on_bad_image: skip`` leaves out and counts.
    """

    def __init__(self, path: Path, reason: str, remedy: str = "Replace or remove the file") -> None:
        super().__init__(f"cannot read image {printable(str(path))}: {reason}. {remedy}")
        self.path = path
        self.reason = reason
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[Path, str, str]]:
        """Rebuild from what was given, so that a worker process can send the error."""
        return type(self), (self.path, self.reason, self.remedy)


class UnreadableImagesError(DataError):
    """Images of a set that cannot be read, at least one, where none may be left out."""

    def __init__(self, name: str, count: int, faults: Sequence[UnreadableImageError]) -> None:
        first = f"{printable(str(faults[0].path))} ({faults[0].reason})"
        super().__init__(
            f"{printable(name)}: {len(faults)} of {count} images cannot be read, the first: {first}; repair or remove "
            "them (fedclip check FOLDER lists all)",
            in_recipe=", or set fedclip_args.on_bad_image to skip",
        )


def suffix_of(file: str) -> str:
    """Return a file's suffix in lower case, with its dot."""
    return os.path.splitext(file)[1].lower()  # noqa: PTH122 (a Path per file is slow)


@dataclass(frozen=True, kw_only=True)
class Stored(ImageFacts):
    """How an image file holds its image."""

    size: tuple[int, int]  # width and height in pixels, upright
    digest: str  # SHA-256 of the bytes that were decoded, in hexadecimal
    low_bits: int | None  # bits of the brightest sample, where all bits count and that is nearly black


def open_rgb(path: Path, max_pixels: int = MAX_PIXELS, sample_range: SampleRange | None = None) -> Image.Image:
    """Read one image file as an upright RGB image, by the rules of :func:`fedclip_edge.images.read_rgb`.

    Colour profiles are not applied, as CLIP's own preprocessing does not. JPEG is always decoded at full size. Safe to
    call from several threads.

    Parameters
    ----------
    max_pixels
        Largest width x height that is decoded.
    sample_range
        What is black and white in samples of more than 8 bits; None takes the file's own word.

    Raises
    ------
    UnreadableImageError
        (A DataError.) The file is missing, a link to nowhere, no plain file, empty, truncated, not an image of
        these formats, or larger than `max_pixels`; the message names the file and the reason. It is never waited
        for: a named pipe is refused at once.
    MissingPackageError
        The file is fine, but a package that reads it is not installed: pydicom, or what decompresses its DICOM.
    """
    return read_image(path, max_pixels, sample_range)[0]


def read_image(
    path: Path, max_pixels: int = MAX_PIXELS, sample_range: SampleRange | None = None
) -> tuple[Image.Image, Stored]:
    """Read one image file as `open_rgb` does, and say how it was stored."""
    with _reading(path), open_plain(path) as stream:
        image = open_image(stream, max_pixels, sample_range)
        rgb = image.decode()
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return rgb, Stored(**vars(image.facts), size=rgb.size, digest=digest, low_bits=_low_bits(image.facts, rgb))


def low_bits_of(path: Path, sample_range: SampleRange | None = None) -> int | None:
    """Return `Stored.low_bits` of a file; only one that is scaled by its bit depth is decoded. Errors as `open_rgb`."""
    with _reading(path), open_plain(path) as stream:
        image = open_image(stream, sample_range=sample_range)
        return _low_bits(image.facts, image.decode()) if image.facts.scaled_by == BIT_DEPTH else None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into the error that names it."""
    try:
        yield
    except MissingPackageError as error:
        raise MissingPackageError(f"cannot read image {printable(str(path))}: {error}") from error
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # bad bytes make Pillow raise OSError, SyntaxError, struct.error ...
        raise UnreadableImageError(path, _reason(path, error)) from error


def _low_bits(facts: ImageFacts, rgb: Image.Image) -> int | None:
    """Return how many bits the samples of an image use, where they are scaled by all and it comes out nearly black."""
    if facts.scaled_by != BIT_DEPTH or facts.mode in WITH_ALPHA:  # what is transparent is white
        return None
    brightest = int(np.asarray(rgb).max())
    return facts.bits - 8 + brightest.bit_length() if brightest < _DARK else None


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"it is a link to {printable(str(path.readlink()))}, which is not there"
    return reason(error)
