"""Decode in worker threads, encode in batches: the model is never starved."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.data import UnreadableImageError
from fedclip_plugin.data.decoding.decode import Array, Decoded, ImageViews, See, decode
from fedclip_plugin.data.decoding.decode_process import files_at_once
from fedclip_plugin.data.decoding.process_pool import ProcessPool

Progress = Callable[[int], Any]
"""Called with the number of images done since the last call."""

_AHEAD = 3
_FEW = 2000
"""Files that threads decode before processes have started: each takes about a second of a core to start."""


def no_progress(count: int) -> None:
    """Take no notice of progress."""


@dataclass(frozen=True)
class Batch:
    """What was made of some files, by index into the list of files."""

    arrays: dict[int, Sequence[Array]]  # each view of a readable image that was asked for, or its features
    digests: dict[int, str]  # SHA-256, in hexadecimal, of what they were made of
    faults: dict[int, UnreadableImageError]  # files that cannot be read


class ImageEncoder(Protocol):
    """What turns images into features: the frozen CLIP in torch, or its export in onnxruntime."""

    device: torch.device

    def see(self, views: Sequence[int] = (0,)) -> See:
        """Return what makes of an RGB image, for each of these views of it, what is kept until it is encoded."""

    def pixels(self, seen: Sequence[Array], room: Tensor | None = None) -> Tensor:
        """Return what the encoder sees, ``[B, 3, S, S]``; ``room`` is what it saw before, and may be written over."""

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return features ``[B, d]`` of ``[B, 3, S, S]``."""


def encode_files(
    clip: ImageEncoder,
    paths: Sequence[Path],
    batch_size: int,
    workers: int,
    on_progress: Progress = no_progress,
    sample_range: SampleRange | None = None,
) -> tuple[dict[int, npt.NDArray[np.float32]], dict[int, UnreadableImageError]]:
    """Encode image files.

    Parameters
    ----------
    paths
        N files.
    batch_size
        Images in one forward pass; 0 for 256 on a GPU, which waits for launches with fewer, and 64 on a CPU.
    workers
        Decoding threads; PIL releases the interpreter lock while it decodes and resizes. For a GPU each has a process.
    on_progress
        Called with the number of images done since the last call.
    sample_range
        What is black and white in samples of more than 8 bits; None takes each file's own word.

    Returns
    -------
    features, faults
        Features ``[d]``, and errors for files that cannot be read, both by index into ``paths``.
    """
    features: dict[int, npt.NDArray[np.float32]] = {}
    faults: dict[int, UnreadableImageError] = {}
    batches = read_files(clip.see(), paths, images_at_once(clip, batch_size), workers, sample_range, clip.device)
    for batch in encode_batches(clip, batches, on_progress):
        features |= {index: array for index, (array,) in batch.arrays.items()}
        faults |= batch.faults
    return features, faults


def images_at_once(clip: ImageEncoder, batch_size: int) -> int:
    """Return how many images, or views, go through the backbone at once; ``batch_size`` as of `encode_files`."""
    return batch_size or (256 if clip.device.type == "cuda" else 64)


def encode_batches(
    clip: ImageEncoder, batches: Iterable[Batch], on_progress: Progress = no_progress
) -> Iterator[Batch]:
    """Yield, for each batch of images that were read, the features ``[d]`` float32 of each view."""
    pixels: Tensor | None = None
    for batch in batches:
        features: dict[int, Sequence[Array]] = {}
        if batch.arrays:
            pixels = clip.pixels(list(chain.from_iterable(batch.arrays.values())), pixels)
            encoded = clip.encode_pixels(pixels).numpy()
            views = len(encoded) // len(batch.arrays)
            features = dict(zip(batch.arrays, encoded.reshape(-1, views, encoded.shape[-1]), strict=True))
        yield replace(batch, arrays=features)
        on_progress(sum(map(len, features.values())) + len(batch.faults))


def read_files(
    see: See,
    paths: Sequence[Path],
    batch_size: int,
    workers: int,
    sample_range: SampleRange | None = None,
    device: torch.device | None = None,
) -> Iterator[Batch]:
    """Yield in order what ``see`` makes of images, while the next batches are being decoded by ``workers`` threads.

    A batch is ``batch_size`` files, each of which is opened and decoded once, however many views are seen of it.
    For a GPU as ``device``, which encodes more images than threads decode, each thread has a process that decodes.
    """
    starts = iter(range(0, len(paths), batch_size))
    pending: deque[list[tuple[range, Future[Sequence[Decoded]]]]] = deque()
    with _decoding(see, workers, sample_range, device, len(paths)) as (act, few), ThreadPoolExecutor(workers) as pool:

        def _submit(count: int) -> None:
            for start in islice(starts, count):
                stop = min(start + batch_size, len(paths))
                parts = [range(at, min(at + few, stop)) for at in range(start, stop, few)]
                pending.append([(part, pool.submit(act, paths[part.start : part.stop])) for part in parts])

        _submit(_AHEAD)
        while pending:
            done = [zip(part, future.result(), strict=True) for part, future in pending.popleft()]
            results = dict(chain.from_iterable(done))
            _submit(1)
            good = {index: result for index, result in results.items() if not isinstance(result, UnreadableImageError)}
            yield Batch(
                {index: array for index, (array, _) in good.items()},
                {index: digest for index, (_, digest) in good.items()},
                {index: result for index, result in results.items() if isinstance(result, UnreadableImageError)},
            )


@contextmanager
def _decoding(
    see: See, workers: int, sample_range: SampleRange | None, device: torch.device | None, files: int
) -> Iterator[tuple[Callable[[Sequence[Path]], Sequence[Decoded]], int]]:
    """Give what decodes files, in the thread that calls or in a process, and how many it is to be given at once."""
    if device is not None and device.type == "cuda" and files > _FEW and isinstance(see, ImageViews):
        with ProcessPool(see, workers, sample_range) as processes:
            yield processes.decode, files_at_once(see)
    else:
        yield lambda paths: [decode(see, path, sample_range) for path in paths], 1
