"""Sums over a silo's images, from which closed-form methods are solved: counts, class sums and a Gram matrix."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from fedclip_plugin.features.feature_set import FeatureSet

QUANTUM = 2.0**-36
"""What sums are multiples of once they have travelled: in float64 those of up to 130,000 images add exactly, in any
order."""

_LARGEST = 2**31 - 1

_BLOCK = 128  # columns of a Gram matrix at once
_AT_ONCE = 4096  # images that are widened to float64 at once
_RARE = 7.2  # standard deviations that noise reaches less than once in 10^12 times
_SLACK = 1e-3  # by which sums over unit-length features may miss their bounds, rounding included

Tensors = OrderedDict[str, Tensor]


@dataclass(frozen=True)
class Statistics:
    """Sums over images with labels and unit-length features; each augmented view counts as an image.

    Statistics add: those of two silos are those of one silo with the images of both. C classes, d feature width. All
    are float64 on the CPU.
    """

    counts: Tensor  # images of each class, ``[C]``
    sums: Tensor  # sum of the features of each class, ``[C, d]``
    gram: Tensor | None  # sum of the outer products f f^T, its upper triangle row by row, ``[d (d + 1) / 2]``

    @classmethod
    def of(cls, data: FeatureSet, classes: int, gram: bool, left_out: Iterable[int] = ()) -> Self:
        """Sum over a silo's images, but those of the classes that are ``left_out``."""
        kept = ~torch.isin(data.labels, torch.tensor([*left_out], dtype=torch.int64, device=data.labels.device))
        width = data.features.shape[1]
        found = cls.none(classes, width, gram)
        every = data.features[:, None] if data.views is None else torch.cat([data.features[:, None], data.views], 1)
        for chosen in torch.nonzero(kept).flatten().split(_AT_ONCE):
            features = normalize(every[chosen].double(), dim=-1)
            labels = data.labels[chosen].repeat_interleave(every.shape[1])
            flat = features.flatten(0, 1)
            found.counts.add_(torch.bincount(labels, minlength=classes).cpu())
            found.sums.add_(_class_sums(flat, labels, classes).cpu())
            if found.gram is not None:
                found.gram.add_(_upper(_products(flat)).cpu())
        return found

    @classmethod
    def none(cls, classes: int, width: int, gram: bool, device: str = "cpu") -> Self:
        """Return those of no image."""
        sizes = ((classes,), (classes, width), (width * (width + 1) // 2,))
        counts, sums, upper = (torch.zeros(size, dtype=torch.float64, device=device) for size in sizes)
        return cls(counts, sums, upper if gram else None)

    def to_wire(self) -> Tensors:
        """Return them as they travel: counts in int64, sums as int32 fractions of float64 scales.

        The scale of a class sum is its largest number; those of the Gram matrix are the roots of its diagonal, since
        ``|G_ij| <= sqrt(G_ii G_jj)``, or where noise has made that untrue, of its largest number. That is a hundred
        times as exact as float32, in as many bytes: a solution with a small penalty needs it.
        """
        scale = self.sums.abs().amax(1)
        named = Tensors(counts=self.counts.round().long())
        named |= {"sums": _fractions(self.sums, scale[:, None]), "sums.scale": scale}
        if self.gram is not None:
            scale = self._gram_scale()
            named |= {"gram": _fractions(self.gram, _upper(scale.outer(scale))), "gram.scale": scale}
        return named

    @classmethod
    def from_wire(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return what :meth:`to_wire` wrote, to within half a :data:`QUANTUM` and the fractions' own rounding."""
        sums, gram = _whole(tensors["sums"], tensors["sums.scale"][:, None]), None
        if "gram" in tensors:
            scale = tensors["gram.scale"]
            gram = _whole(tensors["gram"], _upper(scale.outer(scale)))
        return cls(tensors["counts"].double(), sums, gram)

    def parts(self) -> dict[str, Tensor]:
        """Return them by name: ``counts``, ``sums`` and where there is one ``gram``."""
        every = {"counts": self.counts, "sums": self.sums, "gram": self.gram}
        return {name: part for name, part in every.items() if part is not None}

    def flat(self) -> NDArray[np.float64]:
        """Return all numbers one after the other."""
        return torch.cat([part.flatten() for part in self.parts().values()]).numpy()

    def of_flat(self, numbers: NDArray[np.float64]) -> Self:
        """Return what :meth:`flat` wrote, of the shapes of these."""
        sizes = [self.counts.numel(), self.sums.numel(), 0 if self.gram is None else self.gram.numel()]
        counts, sums, gram = torch.from_numpy(np.array(numbers)).split(sizes)
        return type(self)(counts, sums.reshape(self.sums.shape), None if self.gram is None else gram)

    def rounded(self) -> Self:
        """Return them in multiples of :data:`QUANTUM`, which add exactly."""
        return type(self)(self.counts, _multiples(self.sums), None if self.gram is None else _multiples(self.gram))

    def fault(self, most: int, noise: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> str | None:
        """Return why these cannot be sums over at most ``most`` unit-length features; None when they can.

        With ``noise`` of such standard deviations on counts, sums and the Gram matrix, bounds are wider by as much as
        that may add once in 10^12 times.
        """
        total, sums = float(self.counts.sum()), self.sums.norm(dim=1)
        classes, width = self.sums.shape
        on_counts, on_sums, on_gram = (_RARE * deviation for deviation in noise)
        if not np.isfinite(self.flat().sum()):
            return "it holds NaN or infinite values"
        if bool((self.counts < 0).any()) or total > most + on_counts * classes:
            return f"it counts {total:,.0f} images, of at most {most:,}"
        counts = self.counts + on_counts
        if bool((sums > counts * (1 + _SLACK) + _SLACK + on_sums * width**0.5).any()):
            return "a class sum is longer than that many unit-length features can be"
        if self.gram is None:
            return None
        slack = _SLACK * (total + 1) + on_counts * classes + on_gram * width**0.5
        if abs(float(self._diagonal().sum()) - total) > slack:
            return "the trace of its Gram matrix is not the number of its images, as that of unit-length features is"
        return None

    def matrix(self) -> Tensor:
        """Return the whole Gram matrix, ``[d, d]``."""
        assert self.gram is not None, "asked of methods that sum one"
        width = self.sums.shape[1]
        half = torch.zeros(width * width, dtype=torch.float64)
        half[_triangle(width)] = self.gram
        half = half.reshape(width, width)
        return half + half.triu(1).T

    @staticmethod
    def diagonal(width: int) -> Tensor:
        """Return where in a Gram matrix's upper triangle its diagonal is, ``[d]``."""
        steps = torch.arange(width)
        return steps * width - steps * (steps - 1) // 2

    def _diagonal(self) -> Tensor:
        assert self.gram is not None, "asked of methods that sum one"
        return self.gram[self.diagonal(self.sums.shape[1])]

    def _gram_scale(self) -> Tensor:
        assert self.gram is not None, "asked of methods that sum one"
        scale = self._diagonal().clamp(min=0).sqrt()
        if bool((self.gram.abs() > _upper(scale.outer(scale)) * (1 + _SLACK)).any()):
            return self.gram.abs().amax().sqrt().expand(len(scale)).contiguous()
        return scale

    def __add__(self, other: Self) -> Self:
        return self.plus(other, 1.0)

    def __sub__(self, other: Self) -> Self:
        return self.plus(other, -1.0)

    def plus(self, other: Self, weight: float) -> Self:
        """Return these and ``weight`` times the others."""
        gram = None if self.gram is None or other.gram is None else self.gram + weight * other.gram
        return type(self)(self.counts + weight * other.counts, self.sums + weight * other.sums, gram)


def small_classes(labels: Tensor, classes: int, least: int) -> list[int]:
    """Return the classes of which there are images, but fewer than ``least``."""
    counts = torch.bincount(labels, minlength=classes)
    return torch.nonzero((counts > 0) & (counts < least)).flatten().tolist()


@lru_cache(maxsize=4)
def _triangle(width: int) -> Tensor:
    """Return where the upper triangle of a flattened square matrix is, row by row."""
    rows, columns = torch.triu_indices(width, width)
    places: Tensor = rows * width + columns
    return places


def _class_sums(rows: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the sum of the rows of each class, ``[C, d]``; on a GPU, where ``index_add_`` has no order, a product."""
    if rows.device.type == "cpu":
        return rows.new_zeros(classes, rows.shape[1]).index_add_(0, labels, rows)
    of_class = rows.new_zeros(classes, len(rows))
    of_class[labels, torch.arange(len(rows), device=rows.device)] = 1.0
    return of_class @ rows


def _products(rows: Tensor) -> Tensor:
    """Return ``rows^T rows``, its blocks below the diagonal left at 0: two thirds of the work."""
    width = rows.shape[1]
    found = rows.new_zeros(width, width)
    for start in range(0, width, _BLOCK):
        found[start : start + _BLOCK, start:] = rows[:, start : start + _BLOCK].T @ rows[:, start:]
    return found


def _upper(matrix: Tensor) -> Tensor:
    return matrix.flatten().index_select(0, _triangle(len(matrix)).to(matrix.device))


def _fractions(values: Tensor, scale: Tensor) -> Tensor:
    """Return whole parts of ``scale / (2^31 - 1)``; where the scale is 0 or NaN, 0."""
    return (values / scale * _LARGEST).nan_to_num_(0.0, 0.0, 0.0).round_().clamp_(-_LARGEST, _LARGEST).int()


def _whole(fractions: Tensor, scale: Tensor) -> Tensor:
    return _multiples(fractions * (scale / _LARGEST))


def _multiples(values: Tensor) -> Tensor:
    return (values * (1 / QUANTUM)).round_().mul_(QUANTUM)
