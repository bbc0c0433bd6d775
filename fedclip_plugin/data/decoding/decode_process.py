"""``python -m``: a process that decodes images for another one; see `process_pool`.

On stdin comes one line of JSON that says what to make of images, and then lines with paths, up to ``AT_ONCE`` each. The
command line names two descriptors: memory that both processes see, where what is made of a file goes into a row, and a
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
from fedclip_plugin.data.decoding.decode import ImageView, decode
from fedclip_plugin.data.read_image import UnreadableImageError

AT_ONCE = 16
"""Files in one question: the fewer questions, the less the other process has to do."""


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process hears of Ctrl-C too, and ends this one
    rows = shared_rows(int(sys.argv[1]))
    job = json.loads(sys.stdin.buffer.readline())
    given = job.pop("sample_range")
    sample_range = None if given is None else tuple(given)
    see = ImageView(**job | {"crop": CenterCrop(**job["crop"])})
    with os.fdopen(int(sys.argv[2]), "w", encoding="ascii") as answers:
        for line in sys.stdin.buffer:
            told = [_answer(see, Path(name), sample_range, rows[at]) for at, name in enumerate(json.loads(line))]
            answers.write(f"{json.dumps(told)}\n")
            answers.flush()


def shared_rows(descriptor: int) -> npt.NDArray[np.uint8]:
    """Return shared memory as ``AT_ONCE`` rows of bytes."""
    return np.frombuffer(mmap.mmap(descriptor, 0), dtype=np.uint8).reshape(AT_ONCE, -1)


def _answer(see: ImageView, path: Path, sample_range: SampleRange | None, row: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Put levels into ``row`` and return their shape and the file's digest; or what is wrong."""
    try:
        decoded = decode(see, path, sample_range)
    except MissingPackageError as error:
        return {"missing": str(error)}
    if isinstance(decoded, UnreadableImageError):
        errno = getattr(decoded.__cause__, "errno", None)
        return {"reason": decoded.reason, "remedy": decoded.remedy, "errno": errno}
    levels, digest = decoded
    row[: levels.size] = levels.reshape(-1)
    return {"shape": levels.shape, "digest": digest}


if __name__ == "__main__":
    main()
