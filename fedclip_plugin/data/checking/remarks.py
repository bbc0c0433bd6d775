"""What is said of a set of images before it is used, though nothing stops the start: files left out, dark files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

from fedclip_edge.images import FORMATS
from fedclip_edge.sample_range import SampleRange
from fedclip_edge.terminal import printable
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.read_image import IMAGE_SUFFIXES, UnreadableImageError, low_bits_of, suffix_of

_PICTURES = frozenset(
    {
        *(".gif", ".avif", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpx", ".jxr", ".apng"),
        *(".ima", ".nii", ".nrrd", ".mha", ".mhd"),  # medicine
        *(".svs", ".ndpi", ".mrxs", ".scn", ".czi", ".lif", ".lsm", ".nd2", ".vsi", ".btf"),  # microscopes
        *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),  # cameras
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".pcx", ".dds", ".exr", ".hdr", ".dib", ".ico", ".ras"),
        *(".psd", ".psb", ".xcf", ".eps", ".svg", ".fits", ".fit"),
    }
)
"""Suffixes, in lower case, of pictures in formats that are not read."""

CONVERT = (
    f"convert them to {FORMATS}, put them into their class folders with a suffix of "
    f"{', '.join(IMAGE_SUFFIXES)}, or move them away"
)
"""What to do about them."""

_MEASURED = 16
"""Images of a set that are looked at before a start."""


def remarks(images: ImageSet, sample_range: SampleRange | None = None) -> list[str]:
    """Return the set's own notes, a line for pictures that are left out, and one for files that come out nearly black.

    The headers of a few images are looked at, and only files that are scaled by their bit depth are decoded.
    """
    lines = list(images.notes)
    if files := unused_pictures(images.ignored):
        lines.append(f"{unused_line(images.name, files)}; fedclip check FOLDER lists them")
    if dark := _measure_low_bits(images, sample_range):
        lines.append(low_bits_line(images.name, dark, min(_MEASURED, len(images))))
    return lines


def unused_pictures(ignored: Sequence[str]) -> list[str]:
    """Return those of the ignored files which could be pictures.

    That is: files of picture formats that are not read, images beside the class folders, and files without a suffix in
    a class folder, as DICOM files often are.
    """
    return [file for file in ignored if _could_be_picture(file)]


def unused_line(name: str, files: Sequence[str]) -> str:
    """Say in one line which files (from `unused_pictures`, at least one) of a silo or domain are not used."""
    counts = Counter(suffix_of(file) or "without suffix" for file in files)
    told = ", ".join(f"{suffix} {count}" for suffix, count in sorted(counts.items()))
    count = f"{len(files)} files" if len(files) > 1 else "1 file"
    return f"{printable(name)}: {count} not used ({printable(told)}), such as {printable(files[0])}"


def _measure_low_bits(images: ImageSet, sample_range: SampleRange | None) -> dict[str, int]:
    """Return, of a few images spread over a set, those that use only the low bits, and how many.

    Unreadable ones are left to who reads them all.
    """
    found: dict[str, int] = {}
    step = max(1, len(images) // _MEASURED)
    for file in images.files[::step][:_MEASURED]:
        with suppress(UnreadableImageError):
            bits = low_bits_of(images.root / file, sample_range)
            if bits is not None:
                found[file] = bits
    return found


def low_bits_line(name: str, found: Mapping[str, int], looked_at: int | None = None) -> str:
    """Say in one line that images of a silo or domain come out nearly black.

    `found` has, by file, the bits that its samples use; `looked_at` says out of how many images, None for all.
    """
    bits, first = max(found.values()), printable(next(iter(found)))
    count = f"{len(found)} images" if len(found) > 1 else "1 image"
    among = "" if looked_at is None else f" of {looked_at} looked at"
    return (
        f"{printable(name)}: {count}{among} with samples of more than 8 bits use only the lowest {bits}, such as "
        f"{first}: they come out nearly black; set fedclip_args.sample_range, such as [0, {2**bits - 1}] (fedclip "
        f"check --sample-range 0 {2**bits - 1} tries it), or save 8 bits"
    )


def _could_be_picture(file: str) -> bool:
    suffix = suffix_of(file.removesuffix(".gz"))
    return suffix in _PICTURES or suffix in IMAGE_SUFFIXES or (not suffix and "/" in file)
