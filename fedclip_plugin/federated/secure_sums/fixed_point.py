"""Numbers as whole multiples of a step, in the ring of the integers modulo 2^32 or 2^64: there sums are exact.

What is added comes back whole as long as the sum itself stays inside the ring: each silo's part may be anywhere in it
once a mask is on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedclip_plugin.methods.closed_form.feature_sums import QUANTUM

ZEROS, ZEROS_COUNT = ":zeros", 2
"""Name and number of zeros that each silo masks beside what it sends: where their sum is not 0, masks do not cancel."""

_SIGNED: dict[int, torch.dtype] = {32: torch.int32, 64: torch.int64}
_AT_ONCE = 2**18  # numbers that are widened to float64 at once

Ring = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]


@dataclass(frozen=True)
class FixedPoint:
    """A ring and the step whose multiples stand in it.

    Attributes
    ----------
    bits
        32 or 64.
    step
        What 1 stands for.
    most
        Largest absolute value of a sum that surely comes back.
    """

    bits: int
    step: float
    most: float

    @classmethod
    def of_updates(cls, bound: float, members: int) -> Self:
        """Return the one in which a weighted average of updates fits, each number of which is at most ``bound``.

        Weights sum to 1, so that the average is within the bound; each part is rounded by half a step at most, so that
        ``bound / step + members / 2`` has to stay below ``2^31``. The average is off by ``members * step / 2`` at
        most, which is ``members * bound / 2^32``.
        """
        return cls(32, bound / (2**31 - 1 - members), bound)

    @classmethod
    def of_sums(cls, members: int) -> Self:
        """Return the one for sums over images: multiples of ``2^-36`` as where they are not hidden, up to ``2^27``."""
        return cls(64, QUANTUM, (2.0**63 - 2 * members) * QUANTUM)

    @property
    def dtype(self) -> torch.dtype:
        """The type in which numbers of the ring travel: signed, as a tensor has no other of that many bits."""
        return _SIGNED[self.bits]

    def encode(self, values: Tensor, factor: float = 1.0) -> Ring:
        """Return ``factor`` times the values in the ring, flat; they are finite and within what fits."""
        flat = values.detach().reshape(-1)
        found = np.empty(flat.numel(), self._numpy("i"))
        for start in range(0, flat.numel(), _AT_ONCE):
            part = flat[start : start + _AT_ONCE].double().mul(factor / self.step).round_()
            found[start : start + _AT_ONCE] = part.numpy()
        return found.view(self._numpy("u"))

    def decode(self, numbers: Ring, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Return what numbers of the ring stand for, float64 of a shape."""
        return torch.from_numpy(numbers.view(self._numpy("i")).astype(np.float64)).mul_(self.step).reshape(shape)

    def as_tensor(self, numbers: Ring, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Return numbers of the ring as they travel."""
        return torch.from_numpy(numbers.view(self._numpy("i"))).reshape(shape)

    def total(self, parts: list[Tensor]) -> Ring:
        """Return the sum of what has travelled, in the ring, flat."""
        found: Ring = np.zeros(parts[0].numel(), self._numpy("u"))
        for part in parts:
            found += part.contiguous().reshape(-1).numpy().view(self._numpy("u"))
        return found

    def _numpy(self, sign: str) -> np.dtype[Any]:
        return np.dtype(f"{sign}{self.bits // 8}")
