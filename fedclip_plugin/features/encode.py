"""Decode in worker threads, encode in batches: the model is never starved."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from fedclip_plugin.data import UnreadableImageError, open_rgb

Pixels = npt.NDArray[np.float32]
Decoded = Pixels | UnreadableImageError

_AHEAD = 3


class ImageEncoder(Protocol):
    """What turns images into features: the frozen CLIP in torch, or its export in onnxruntime."""

    device: torch.device

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return the pixels that the encoder sees of an RGB image, ``[3, S, S]``."""

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return features ``[B, d]`` of ``[B, 3, S, S]``."""


def encode_files(
    clip: ImageEncoder,
    paths: Sequence[Path],
    batch_size: int,
    workers: int,
    on_progress: Callable[[int], None],
) -> tuple[dict[int, npt.NDArray[np.float32]], dict[int, UnreadableImageError]]:
    """Encode image files.

    Parameters
    ----------
    clip
        The backbone.
    paths
        N files.
    batch_size
        Images in one forward pass.
    workers
        Decoding threads; PIL releases the interpreter lock while it decodes and resizes.
    on_progress
        Called with the number of images done since the last call.

    Returns
    -------
    features, faults
        Features ``[d]``, and errors for files that cannot be read, both by index into ``paths``.
    """
    features: dict[int, npt.NDArray[np.float32]] = {}
    faults: dict[int, UnreadableImageError] = {}
    for indices, results in _decoded_batches(clip, paths, batch_size, workers):
        good: dict[int, Pixels] = {}
        for index, result in zip(indices, results, strict=True):
            if isinstance(result, UnreadableImageError):
                faults[index] = result
            else:
                good[index] = result
        if good:
            encoded = clip.encode_pixels(stack_pixels(list(good.values()), clip.device)).numpy()
            features |= dict(zip(good, encoded, strict=True))
        on_progress(len(indices))
    return features, faults


def decode(clip: ImageEncoder, path: Path) -> Decoded:
    """Return the pixels CLIP sees of one file, ``[3, S, S]``, or the error that says why it cannot be read."""
    try:
        return clip.preprocess(open_rgb(path))
    except UnreadableImageError as error:
        return error


def stack_pixels(pixels: Sequence[Pixels], device: torch.device) -> Tensor:
    """Return images as one batch ``[B, 3, S, S]``, in pinned memory when ``device`` is a GPU."""
    batch = torch.from_numpy(np.stack(pixels))
    return batch.pin_memory() if device.type == "cuda" else batch


def _decoded_batches(
    clip: ImageEncoder, paths: Sequence[Path], batch_size: int, workers: int
) -> Iterator[tuple[range, list[Decoded]]]:
    """Yield decoded batches in order while the next ones are being decoded."""
    starts = iter(range(0, len(paths), batch_size))
    pending: deque[tuple[range, list[Future[Decoded]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:

        def _submit(count: int) -> None:
            for start in islice(starts, count):
                indices = range(start, min(start + batch_size, len(paths)))
                pending.append((indices, [pool.submit(decode, clip, paths[index]) for index in indices]))

        _submit(_AHEAD)
        while pending:
            indices, futures = pending.popleft()
            results = [future.result() for future in futures]
            _submit(1)
            yield indices, results
