"""``python -m``: a process that decodes images for another one; see `process_pool`.

On stdin comes one line of JSON that says what to make of images, and then one with each file's path. To the descriptor
that the command line names goes, for each file, a header and the bytes that it announces; stdout is left to libraries.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fedclip_edge.errors import MissingPackageError
from fedclip_plugin.data.decoding.center_crop import CenterCrop
from fedclip_plugin.data.decoding.decode import CroppedView, Decoded, decode
from fedclip_plugin.data.read_image import UnreadableImageError

HEADER = struct.Struct("<c3I32s")
"""What follows, its shape or its length, and the file's digest."""

IMAGE, FAULT, MISSING = b"i", b"f", b"m"
"""Levels, uint8 ``[H, W, 3]``; a file that cannot be read, as JSON; a package that is not installed, as text."""


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the other process hears too, and it closes stdin
    answers = os.fdopen(int(sys.argv[1]), "wb")
    job = json.loads(sys.stdin.buffer.readline())
    see = CroppedView(CenterCrop(**job["crop"]), job["view"])
    sample_range = None if job["sample_range"] is None else tuple(job["sample_range"])
    for line in sys.stdin.buffer:
        try:
            _answer(answers, decode(see, Path(json.loads(line)), sample_range))
        except MissingPackageError as error:
            _tell(answers, MISSING, str(error))


def _answer(answers: BinaryIO, decoded: Decoded) -> None:
    if isinstance(decoded, UnreadableImageError):
        told = [decoded.reason, decoded.remedy, getattr(decoded.__cause__, "errno", None)]
        _tell(answers, FAULT, json.dumps(told))
        return
    levels, digest = decoded
    answers.write(HEADER.pack(IMAGE, *levels.shape, bytes.fromhex(digest)))
    answers.write(np.ascontiguousarray(levels).data)
    answers.flush()


def _tell(answers: BinaryIO, kind: bytes, text: str) -> None:
    told = text.encode(errors="surrogateescape")
    answers.write(HEADER.pack(kind, 0, 0, len(told), b""))
    answers.write(told)
    answers.flush()


if __name__ == "__main__":
    main()
