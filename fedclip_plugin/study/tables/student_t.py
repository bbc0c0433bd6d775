"""Student's t distribution for any degrees of freedom, with numpy alone: importing scipy takes longer than a table."""

from __future__ import annotations

from math import atan, exp, lgamma, pi, sqrt

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(256)  # type: ignore[no-untyped-call]  # numpy 1.26 has no types for it


def two_sided(statistic: float, freedom: float) -> float:
    """Return the probability of a value at least as far from 0, on either side.

    Parameters
    ----------
    freedom
        Degrees of freedom, at least 1; need not be whole.

    Notes
    -----
    With t = sqrt(freedom) tan(angle) the density is that of cos(angle) ** (freedom - 1), which is smooth on a bounded
    range and is integrated by Gauss and Legendre's rule; its relative error is below 1e-6.
    """
    start = atan(abs(statistic) / sqrt(freedom))
    half = (pi / 2 - start) / 2
    area = half * float(_WEIGHTS @ np.cos(half * (_NODES + 1) + start) ** (freedom - 1))
    return min(1.0, 2 * area * exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(pi))


def quantile(level: float, freedom: float) -> float:
    """Return the number that a value stays within, on both sides of 0, with the probability ``level``.

    Raises
    ------
    ValueError
        When the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"no quantile at level {level}: it must be between 0 and 1")
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > 1 - level:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > 1 - level else (low, middle)
    return high
