"""Files that could be pictures and are not read: told, so that nobody misses them in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from fedclip_plugin.data.images import IMAGE_SUFFIXES
from fedclip_plugin.text import printable

_PICTURES = frozenset(
    {
        *(".tif", ".tiff", ".gif", ".avif", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".jpx", ".jxr", ".apng"),
        *(".dcm", ".dicom", ".ima", ".nii", ".nrrd", ".mha", ".mhd"),  # medicine
        *(".svs", ".ndpi", ".mrxs", ".scn", ".czi", ".lif", ".lsm", ".nd2", ".vsi", ".btf"),  # microscopes
        *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),  # cameras
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".pcx", ".dds", ".exr", ".hdr", ".dib", ".ico", ".ras"),
        *(".psd", ".psb", ".xcf", ".eps", ".svg", ".fits", ".fit"),
    }
)
"""Suffixes, in lower case, of pictures in formats that are not read."""

CONVERT = (
    "convert them to JPEG, PNG, WebP or BMP, put them into their class folders with a suffix of "
    f"{', '.join(IMAGE_SUFFIXES)}, or move them away"
)
"""What to do about them."""


def unused_pictures(ignored: Sequence[str]) -> list[str]:
    """Return those of the files that are left out which could be pictures.

    Parameters
    ----------
    ignored
        Files below a folder of class folders, such as `ImageSet.ignored`.

    Returns
    -------
    list of str
        Files of picture formats that are not read, images beside the class folders, and files without a suffix in
        a class folder, as DICOM files often are.
    """
    return [file for file in ignored if _could_be_picture(file)]


def unused_line(name: str, files: Sequence[str]) -> str:
    """Say in one line which files of a silo or domain are not used.

    Parameters
    ----------
    name
        The silo or domain.
    files
        From `unused_pictures`, at least one.
    """
    counts = Counter(suffix_of(file) or "without suffix" for file in files)
    told = ", ".join(f"{suffix} {count}" for suffix, count in sorted(counts.items()))
    count = f"{len(files)} files" if len(files) > 1 else "1 file"
    return f"{printable(name)}: {count} not used ({printable(told)}), such as {printable(files[0])}"


def suffix_of(file: str) -> str:
    """Return a file's suffix in lower case, with its dot."""
    return os.path.splitext(file)[1].lower()  # noqa: PTH122 (a Path per file is slow)


def _could_be_picture(file: str) -> bool:
    suffix = suffix_of(file.removesuffix(".gz"))
    return suffix in _PICTURES or suffix in IMAGE_SUFFIXES or (not suffix and "/" in file)
