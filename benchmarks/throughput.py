"""Encoding files against the forward pass alone: whether the loader starves the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.setup.encode_subject import BATCH, WORKERS, Subject, timed
from benchmarks.setup.ratios import Figure, of_samples

_GOALS = {"cpu": 0.9, "cuda": 0.8}


def compare_throughput(subject: Subject, repeats: int) -> list[Figure]:
    """Compare encoding files with the forward pass alone, in float32 and in what ``auto`` would try.

    Parameters
    ----------
    subject
        Backbone and files of PACS's size.
    repeats
        Measurements of either, taken in turn.
    """
    figures: list[Figure] = []
    batches = subject.pixels().split(BATCH)
    for precision in subject.precisions():
        files, forward = [], []
        with subject.computing_in(precision):
            subject.clip.encode_pixels(batches[0])
            for _ in range(repeats):
                files.append(_clocks(subject.encode))
                forward.append(_clocks(lambda: [subject.clip.encode_pixels(batch) for batch in batches]))
        figures += rates(
            f"{subject.name} {precision}", len(subject.images), files, forward, _GOALS[subject.device.type]
        )
    return figures


def rates(
    name: str,
    count: int,
    files: Sequence[tuple[float, float]],
    forward: Sequence[tuple[float, float]],
    goal: float,
) -> list[Figure]:
    """Return throughputs and their ratio.

    Parameters
    ----------
    name
        Backbone and precision.
    count
        Number of images.
    files, forward
        Wall and processor seconds of each measurement.
    goal
        Least share of the forward pass's throughput.
    """
    pairs = list(zip(files, forward, strict=True))
    note = f"{count} files of 227 x 227, {WORKERS} decoding threads"
    return [
        of_samples(f"{name}: encode JPEG files", [count / wall for wall, _ in files], "images/s", note=note),
        of_samples(f"{name}: forward pass alone", [count / wall for wall, _ in forward], "images/s"),
        of_samples(f"{name}: files / forward", [b[0] / a[0] for a, b in pairs], "x", at_least=goal),
        of_samples(f"{name}: same in processor time", [b[1] / a[1] for a, b in pairs], "x", note="less noisy"),
    ]


def _clocks(act: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds of one call, over all threads."""
    began = time.process_time()
    wall, _ = timed(act, 1)
    return wall[0], time.process_time() - began
