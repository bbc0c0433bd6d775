"""16-bit files that use only the low bits of their samples: the high byte, which is kept, is nearly black."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.images import low_bits_of
from fedclip_plugin.data.unreadable import UnreadableImageError
from fedclip_plugin.text import printable

MEASURED = 16
"""Images of a set that are looked at before a start."""


def measure_low_bits(images: ImageSet) -> dict[str, int]:
    """Return, of a few images spread over a set, those that use only the low bits of 16, and how many bits.

    Only files with 16-bit samples are decoded. Unreadable ones are left to who reads them all.
    """
    found: dict[str, int] = {}
    step = max(1, len(images) // MEASURED)
    for file in images.files[::step][:MEASURED]:
        with suppress(UnreadableImageError):
            bits = low_bits_of(images.root / file)
            if bits is not None:
                found[file] = bits
    return found


def low_bits_line(name: str, found: Mapping[str, int], looked_at: int | None = None) -> str:
    """Say in one line that images come out nearly black.

    Parameters
    ----------
    name
        The silo or domain.
    found
        File to the bits that its samples use, at least one.
    looked_at
        Out of how many images; None for all.
    """
    bits, first = max(found.values()), printable(next(iter(found)))
    count = f"{len(found)} images" if len(found) > 1 else "1 image"
    among = "" if looked_at is None else f" of {looked_at} looked at"
    return (
        f"{printable(name)}: {count}{among} with 16-bit samples use only the lowest {bits} bits, such as {first}: the "
        f"high byte is what is read, so they are nearly black (at most {(1 << bits >> 8) - 1} of 255); scale "
        "the samples to all 16 bits, or save 8 bits"
    )
