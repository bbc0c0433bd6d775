"""TIFF files written tag by tag, by TIFF 6.0: what Pillow itself writes proves little about how it reads."""

import struct
import zlib

import numpy as np

TYPES = {3: "H", 4: "I", 8: "h", 9: "i", 11: "f", 12: "d"}
KINDS = {"u": 1, "i": 2, "f": 3}


def tiff(samples, order="<", deflate=False, photometric=None, planes=1, bits=None, tags=()):
    """Return a TIFF with samples ``[H, W]`` or ``[H, W, N]``, in one strip a plane.

    `order` is ``<`` or ``>``; `planes` 2 lays channels apart; `bits` 12 packs two samples into three bytes; `tags` are
    (number, type, values).
    """
    samples = np.asarray(samples)
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    strips = _strips(samples, order, deflate, planes, bits)
    offsets = [8 + sum(map(len, strips[:n])) for n in range(len(strips))]
    entries = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits or 8 * samples.dtype.itemsize] * channels),
        259: (3, [8 if deflate else 1]),
        262: (3, [(1 if channels == 1 else 2) if photometric is None else photometric]),
        273: (4, offsets),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [len(strip) for strip in strips]),
        284: (3, [planes]),
        339: (3, [KINDS[samples.dtype.kind]] * channels),
    } | {number: (kind, values) for number, kind, values in tags}
    content = b"".join(strips)
    content += b"\0" * (len(content) % 2)
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(content))
    return head + content + _directory(entries, order, 8 + len(content))


def _strips(samples, order, deflate, planes, bits):
    stored = samples.astype(samples.dtype.newbyteorder(order))
    strips = [stored[..., n].tobytes() for n in range(samples.shape[2])] if planes == 2 else [stored.tobytes()]
    strips = [packed_12_bits(samples)] if bits == 12 else strips
    return [zlib.compress(strip) for strip in strips] if deflate else strips


def _directory(entries, order, place):
    beyond, table = b"", struct.pack(f"{order}H", len(entries))
    for number, (kind, values) in sorted(entries.items()):
        value = struct.pack(f"{order}{len(values)}{TYPES[kind]}", *values)
        if len(value) > 4:
            far, value = value, struct.pack(f"{order}I", place + 6 + 12 * len(entries) + len(beyond))
            beyond += far + b"\0" * (len(far) % 2)
        table += struct.pack(f"{order}HHI", number, kind, len(values)) + value.ljust(4, b"\0")
    return table + struct.pack(f"{order}I", 0) + beyond


def packed_12_bits(samples):
    """Return rows of 12-bit samples, two in three bytes, each row from a new byte on."""
    rows = []
    for row in np.asarray(samples):
        text = "".join(f"{value:012b}" for value in row)
        text = text.ljust(-(-len(text) // 8) * 8, "0")
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return b"".join(rows)
