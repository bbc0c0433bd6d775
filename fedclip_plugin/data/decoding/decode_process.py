"""``python -m``: a process that decodes images for another one; see `process_pool`.

On stdin comes one line of JSON that says what to make of images, and then lines with paths, `files_at_once` each. The
command line names two descriptors: memory that both processes see, where each view of a file goes into a row, and a
pipe for one line of answers each. stdout is left to libraries.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedclip_edge.errors import MissingPackageError
from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.data.decoding.center_crop import CenterCrop
from fedclip_plugin.data.decoding.decode import ImageViews, decode
from fedclip_plugin.data.read_image import UnreadableImageError

AT_ONCE = 16
"""Views in one question: the fewer questions, the less the other process has to do."""


def files_at_once(see: ImageViews) -> int:
    """Return how many files one question has at most."""
    return max(1, AT_ONCE // len(see.views))


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process hears of Ctrl-C too, and ends this one
    job = json.loads(sys.stdin.buffer.readline())
    given = job.pop("sample_range")
    sample_range = None if given is None else tuple(given)
    see = ImageViews(**job | {"crop": CenterCrop(**job["crop"]), "views": tuple(job["views"])})
    rows = shared_rows(int(sys.argv[1]), see)
    with os.fdopen(int(sys.argv[2]), "w", encoding="ascii") as answers:
        for line in sys.stdin.buffer:
            told = [_answer(see, Path(name), sample_range, rows[at]) for at, name in enumerate(json.loads(line))]
            answers.write(f"{json.dumps(told)}\n")
            answers.flush()


def shared_rows(descriptor: int, see: ImageViews) -> npt.NDArray[np.uint8]:
    """Return shared memory as rows of bytes, ``[files, views, bytes]``."""
    return np.frombuffer(mmap.mmap(descriptor, 0), dtype=np.uint8).reshape(files_at_once(see), len(see.views), -1)


def _answer(
    see: ImageViews, path: Path, sample_range: SampleRange | None, rows: npt.NDArray[np.uint8]
) -> dict[str, Any]:
    """Put the levels of each view into a row and return their shapes and the file's digest; or what is wrong."""
    try:
        decoded = decode(see, path, sample_range)
    except MissingPackageError as error:
        return {"missing": str(error)}
    if isinstance(decoded, UnreadableImageError):
        errno = getattr(decoded.__cause__, "errno", None)
        return {"reason": decoded.reason, "remedy": decoded.remedy, "errno": errno}
    levels, digest = decoded
    for row, own in zip(rows, levels, strict=True):
        row[: own.size] = own.reshape(-1)
    return {"shapes": [own.shape for own in levels], "digest": digest}


if __name__ == "__main__":
    main()
