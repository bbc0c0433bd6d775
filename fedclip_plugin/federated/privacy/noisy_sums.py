"""Noise on the sums from which closed-form methods are solved.

A feature f has length 1, and so an image that is there or not changes the counts, the class sums and the Gram matrix by
exactly 1 each: by a one, by f, and by ``f f^T``, whose Frobenius norm is ``|f|^2``. Of the matrix the upper triangle
travels; with what is off the diagonal times the root of 2 its Euclidean norm is that Frobenius norm.

Gaussian mechanisms on parts of sensitivity 1 with standard deviations s_k are together one with noise multiplier z
where ``1 / z^2`` is the sum of the ``1 / s_k^2``. Counts say which classes there are, and get a small share of that.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch

from fedclip_plugin.federated.privacy.secret_random import SecretRandom
from fedclip_plugin.methods.closed_form.feature_sums import Statistics

_COUNTS = 0.1
"""Share of the counts in ``1 / z^2``; class sums, and a Gram matrix where there is one, share the rest equally."""

_PRESENT = 2.0
"""How many standard deviations a class's noisy count must reach to be taken for one of which there are images."""


class SumNoise(NamedTuple):
    """Standard deviations of the noise."""

    counts: float
    sums: float
    gram: float  # of what is on the diagonal; off it, by the root of 2 less

    @classmethod
    def of(cls, multiplier: float, gram: bool) -> Self:
        """Return those of a noise multiplier for all of it."""
        other = (1 - _COUNTS) / (2 if gram else 1)
        return cls(multiplier / math.sqrt(_COUNTS), multiplier / math.sqrt(other), multiplier / math.sqrt(other))

    def added(self, own: Statistics, random: SecretRandom) -> Statistics:
        """Return a silo's sums with noise; counts are whole, and 0 where noise alone may have made them."""
        classes, width = own.sums.shape
        draw = random.normal(classes * (width + 1) + (0 if own.gram is None else own.gram.numel()), torch.float64)
        counts = own.counts + self.counts * draw[:classes]
        counts = counts.where(counts >= _PRESENT * self.counts, 0.0).round()
        sums = own.sums + self.sums * draw[classes : classes * (width + 1)].view(classes, width)
        if own.gram is None:
            return Statistics(counts, sums, None)
        spread = torch.full_like(own.gram, self.gram / math.sqrt(2))
        spread[Statistics.diagonal(width)] = self.gram
        return Statistics(counts, sums, own.gram + spread * draw[classes * (width + 1) :])


NO_NOISE = SumNoise(0.0, 0.0, 0.0)
"""Without differential privacy."""
