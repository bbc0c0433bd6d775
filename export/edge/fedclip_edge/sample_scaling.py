"""Samples of more than 8 bits as levels of 8 bits, by one rule for every format.

The rule: ``level = floor(256 x fraction)``, at least 0 and at most 255; ``fraction`` is 0 at black and 1 at white.
Between `low`, which is black, and `high`, which is white, it is ``(sample - low) / (high - low)``. For 0 and
``2**N - 1``, all values of N bits, the level is the sample's highest 8 bits. NaN is black.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Fraction: TypeAlias = "Callable[[NDArray[np.float64]], NDArray[np.float64]]"
"""From samples to their place between black, 0, and white, 1."""

BIT_DEPTH, BY_RANGE, DECLARED = "bit depth", "sample_range", "SMinSampleValue and SMaxSampleValue"
WINDOW, VOI_TABLE = "window", "VOI LUT"
"""By what samples are scaled, as it is told; the last two are DICOM's."""

_BLOCK = 1 << 20  # samples that are scaled at once


@dataclass(frozen=True)
class Scale:
    """The values that are black and white, and by which rule they are."""

    low: float
    high: float
    rule: str

    @classmethod
    def of_bits(cls, bits: int, signed: bool = False) -> Scale:
        """Return the scale over all whole numbers of `bits` bits."""
        low = -(2 ** (bits - 1)) if signed else 0
        return cls(low, low + 2**bits - 1, BIT_DEPTH)

    def fraction(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where samples lie between black and white."""
        return (samples - self.low) / (self.high - self.low)


def to_levels(samples: NDArray[Any], fraction: Fraction) -> NDArray[np.uint8]:
    """Return samples ``[H, W]`` or ``[H, W, 3]`` of any type as levels 0 to 255.

    Samples of 16 bits or fewer are looked up in a table of all their values.
    """
    table, first = _table(samples.dtype, fraction)
    levels = np.empty(samples.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, samples[:1].size))
    for start in range(0, len(samples), rows):
        part = samples[start : start + rows]
        block = _round_down(fraction(part.astype(np.float64))) if table is None else table[part.astype(np.intp) - first]
        levels[start : start + rows] = block
    return levels


def _table(kind: np.dtype[Any], fraction: Fraction) -> tuple[NDArray[np.uint8] | None, int]:
    """Return the levels of all values of a type, and the lowest of them; None where there are too many."""
    if kind.kind not in "iu" or kind.itemsize > 2:
        return None, 0
    limits = np.iinfo(kind)
    return _round_down(fraction(np.arange(limits.min, limits.max + 1, dtype=np.float64))), int(limits.min)


def _round_down(fractions: NDArray[np.float64]) -> NDArray[np.uint8]:
    with np.errstate(all="ignore"):
        levels = np.floor(256 * np.nan_to_num(fractions, nan=0.0, posinf=1.0, neginf=0.0))
    whole: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
    return whole
