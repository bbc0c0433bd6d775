"""Decode in worker threads, encode in batches: the model is never starved."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.data import UnreadableImageError
from fedclip_plugin.data.read_image import read_image

Array = npt.NDArray[Any]
See = Callable[[Image.Image], Array]
"""From an RGB image to what is made of it."""

Progress = Callable[[int], Any]
"""Called with the number of images done since the last call."""

_AHEAD = 3


def no_progress(count: int) -> None:
    """Take no notice of progress."""


@dataclass(frozen=True)
class Batch:
    """What was made of some files, by index into the list of files."""

    arrays: dict[int, Array]  # what was seen of each readable image, or its features
    digests: dict[int, str]  # SHA-256, in hexadecimal, of what they were made of
    faults: dict[int, UnreadableImageError]  # files that cannot be read


class ImageEncoder(Protocol):
    """What turns images into features: the frozen CLIP in torch, or its export in onnxruntime."""

    device: torch.device

    def prepare(self, image: Image.Image) -> Array:
        """Return what is kept of an RGB image until its batch is encoded; called from worker threads."""

    def pixels(self, prepared: Sequence[Array], room: Tensor | None = None) -> Tensor:
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
        Images in one forward pass.
    workers
        Decoding threads; PIL releases the interpreter lock while it decodes and resizes.
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
    for batch in encode_batches(clip, paths, batch_size, workers, on_progress, sample_range=sample_range):
        features |= batch.arrays
        faults |= batch.faults
    return features, faults


def encode_batches(
    clip: ImageEncoder,
    paths: Sequence[Path],
    batch_size: int,
    workers: int,
    on_progress: Progress = no_progress,
    see: See | None = None,
    sample_range: SampleRange | None = None,
) -> Iterator[Batch]:
    """Yield the features of image files, ``[d]`` float32 each, batch by batch; parameters as `encode_files`.

    ``see`` makes of an RGB image what the encoder's ``prepare`` makes of it, which None takes.
    """
    pixels: Tensor | None = None
    for batch in read_files(see or clip.prepare, paths, batch_size, workers, sample_range):
        features: dict[int, Array] = {}
        if batch.arrays:
            pixels = clip.pixels(list(batch.arrays.values()), pixels)
            encoded = clip.encode_pixels(pixels).numpy()
            features = dict(zip(batch.arrays, encoded, strict=True))
        yield replace(batch, arrays=features)
        on_progress(len(batch.arrays) + len(batch.faults))


def decode(see: See, path: Path, sample_range: SampleRange | None = None) -> tuple[Array, str] | UnreadableImageError:
    """Return what ``see`` makes of one file and the file's digest, or the error that says why it cannot be read."""
    try:
        image, stored = read_image(path, sample_range=sample_range)
    except UnreadableImageError as error:
        return error
    return see(image), stored.digest


def read_files(
    see: See, paths: Sequence[Path], batch_size: int, workers: int, sample_range: SampleRange | None = None
) -> Iterator[Batch]:
    """Yield in order what ``see`` makes of images, while the next batches are being decoded by ``workers`` threads."""
    starts = iter(range(0, len(paths), batch_size))
    pending: deque[dict[int, Future[tuple[Array, str] | UnreadableImageError]]] = deque()
    with ThreadPoolExecutor(workers) as pool:

        def _submit(count: int) -> None:
            for start in islice(starts, count):
                indices = range(start, min(start + batch_size, len(paths)))
                pending.append({index: pool.submit(decode, see, paths[index], sample_range) for index in indices})

        _submit(_AHEAD)
        while pending:
            results = {index: future.result() for index, future in pending.popleft().items()}
            _submit(1)
            good = {index: result for index, result in results.items() if not isinstance(result, UnreadableImageError)}
            yield Batch(
                {index: array for index, (array, _) in good.items()},
                {index: digest for index, (_, digest) in good.items()},
                {index: result for index, result in results.items() if isinstance(result, UnreadableImageError)},
            )
