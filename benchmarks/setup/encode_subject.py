"""A backbone and the image files that it is measured on."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.setup.mpi_jobs import RANKS
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.precision import candidate
from fedclip_plugin.data import ImageSet, open_rgb
from fedclip_plugin.features.encoding import encode_files
from fedclip_plugin.ranks import threads_per_rank

BATCH, WORKERS = 64, 2
Result = TypeVar("Result")


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes
    ----------
    name
        For the figures' names.
    clip
        The backbone, in float32 between measurements.
    images
        Files.
    device
        Where the backbone runs.
    """

    name: str
    clip: FrozenClip
    images: ImageSet
    device: torch.device

    def precisions(self) -> list[str]:
        """Return float32, and what ``auto`` would try on this device if that is another."""
        return list(dict.fromkeys(("fp32", candidate(self.device))))

    def first(self, count: int) -> Subject:
        """Return the same with the first ``count`` images only."""
        images = self.images.subset(np.arange(min(count, len(self.images))))
        return Subject(self.name, self.clip, images, self.device)

    def pixels(self) -> Tensor:
        """Return the images as CLIP sees them, ``[N, 3, S, S]``."""
        return torch.from_numpy(np.stack([self.clip.preprocess(open_rgb(path)) for path in self.images.paths()]))

    def encode(self) -> npt.NDArray[np.float32]:
        """Encode all files as the product does, and return their features ``[N, d]``.

        Raises
        ------
        UnreadableImageError
            When a file cannot be read.
        """
        features, faults = encode_files(self.clip, self.images.paths(), BATCH, WORKERS, lambda count: None)
        if faults:
            raise faults[0]
        return np.stack([features[index] for index in range(len(self.images))])

    @contextmanager
    def computing_in(self, precision: str) -> Iterator[None]:
        """Let the backbone compute in ``precision`` for the length of the block."""
        before, self.clip.precision = self.clip.precision, precision
        try:
            yield
        finally:
            self.clip.precision = before


@contextmanager
def rank_threads() -> Iterator[None]:
    """Compute with as many threads as one rank of the four has on this machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads_per_rank(RANKS))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def timed(act: Callable[[], Result], repeats: int) -> tuple[list[float], Result]:
    """Return seconds of each of ``repeats`` calls (1 or more), and what the last one returned."""
    seconds: list[float] = []
    results: list[Result] = []
    for _ in range(repeats):
        gc.collect()
        began = time.perf_counter()
        results = [act()]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds, results[0]
