"""Which libraries a Linux shared library needs and does not find, learnt without loading it."""

from __future__ import annotations

import ctypes
import mmap
import struct
from pathlib import Path

_DYNAMIC_SECTION, _NEEDED = 6, 1
_SECTION = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, size, link, info, alignment, entry size
_ENTRY = struct.Struct("<qQ")  # tag, value


def missing_libraries(path: Path) -> list[str]:
    """Return the libraries that `path` is linked to and that the dynamic loader does not find.

    `path` itself stays unloaded: an onnxruntime provider that is loaded by anyone but onnxruntime crashes in its
    initialisers (microsoft/onnxruntime#16146).

    Parameters
    ----------
    path
        A 64-bit little-endian ELF library, as on every Linux that onnxruntime has wheels for.

    Raises
    ------
    OSError
        `path` cannot be read.
    ValueError
        `path` is not such a library.
    """
    missing = []
    for name in needed_libraries(path):
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def needed_libraries(path: Path) -> list[str]:
    """Return the names of the libraries that `path` is linked to, in its own order.

    Raises
    ------
    OSError
        `path` cannot be read.
    ValueError
        `path` is not a 64-bit little-endian ELF library.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        if image[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a 64-bit little-endian ELF library")
        try:
            return _read_needed(image)
        except (struct.error, IndexError, OverflowError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _read_needed(image: mmap.mmap) -> list[str]:
    (first,) = struct.unpack_from("<Q", image, 0x28)
    _, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [_SECTION.unpack_from(image, first + index * _SECTION.size) for index in range(count)]
    names = []
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind != _DYNAMIC_SECTION:
            continue
        strings = sections[link][4]
        for tag, value in _ENTRY.iter_unpack(image[offset : offset + size]):
            if tag == _NEEDED:
                start = strings + value
                names.append(image[start : image.find(b"\0", start)].decode())
    return names
