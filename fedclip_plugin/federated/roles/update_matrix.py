"""A round's updates as the rows of a matrix, read a piece at a time: no second copy of all of them is ever made."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Tensors = OrderedDict[str, Tensor]
Rows = NDArray[np.float64]
"""A piece of the matrix, ``[n, k]``: k coordinates of n updates."""

_PIECE = 2**22
"""Numbers of a piece, of all updates together: 34 MB, and rules make a few such copies."""


def norm_of_change(held: Mapping[str, Tensor], sent: Mapping[str, Tensor]) -> float:
    """Return the Euclidean norm of ``sent`` less ``held``: of differences in the parameters' own type, in float64."""
    norm = partial(torch.linalg.vector_norm, dtype=torch.float64)
    return math.hypot(*(float(norm(sent[name] - own)) for name, own in held.items()))


class UpdateMatrix:
    """The changes that n silos made, ``[n, d]`` in float64: what each sent, less what all of them held.

    Differences of float32 are exact in float64 where the parameters are of like size, so that a result is rounded
    once, when it is added to what was held.

    Parameters
    ----------
    held
        The parameters that all silos started from, by name; d numbers in all.
    sent
        Of each silo, the parameters after its training, of the same names and shapes.
    """

    def __init__(self, held: Mapping[str, Tensor], sent: Sequence[Mapping[str, Tensor]]) -> None:
        self._held = dict(held)
        self._sent = [{name: own[name].reshape(-1) for name in self._held} for own in sent]

    def __len__(self) -> int:
        """Return n."""
        return len(self._sent)

    def norms(self) -> Rows:
        """Return the Euclidean norm of each update, ``[n]``."""
        held = {name: own.reshape(-1) for name, own in self._held.items()}
        return np.array([norm_of_change(held, own) for own in self._sent])

    def gram(self) -> Rows:
        """Return the inner products of the updates, ``[n, n]``."""
        products = np.zeros((len(self), len(self)))
        for _, piece in self._pieces(range(len(self))):
            products += piece @ piece.T
        return products

    def reduced(self, rule: Callable[[Rows], Rows], rows: Sequence[int] | None = None) -> Tensors:
        """Return what was held, moved by a rule that makes one update of several, coordinate by coordinate.

        Parameters
        ----------
        rule
            From a piece ``[m, k]`` to ``[k]``.
        rows
            The updates that it sees, by index; None for all of them.
        """
        moved = Tensors((name, torch.empty_like(held).reshape(-1)) for name, held in self._held.items())
        for (name, part), piece in self._pieces(range(len(self)) if rows is None else rows):
            own = moved[name][part]
            own.copy_(torch.from_numpy(rule(piece)).add_(self._held[name].reshape(-1)[part]))
        return Tensors((name, own.reshape(self._held[name].shape)) for name, own in moved.items())

    def _pieces(self, rows: Sequence[int]) -> Iterator[tuple[tuple[str, slice], Rows]]:
        size = max(1, _PIECE // max(1, len(rows)))
        for name, held in self._held.items():
            before = held.reshape(-1)
            for start in range(0, before.numel(), size):
                part = slice(start, start + size)
                piece = torch.stack([self._sent[row][name][part] for row in rows]).double()
                yield (name, part), piece.sub_(before[part].double()).numpy()
