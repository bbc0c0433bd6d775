"""Robust aggregation: from the updates of a round to those that are averaged, so that few bad silos do little harm.

Every rule works on updates, the changes that silos made to what all held, and not on weights: a norm or a distance of
weights says how large the adapter is, and not what a silo did to it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.roles.update_matrix import Rows, UpdateMatrix
from fedclip_plugin.recipe.rules.robustness import FEWEST_UPDATES

Tensors = OrderedDict[str, Tensor]
Updates = list[tuple[float, Tensors]]
Vector = NDArray[np.float64]

FEWEST_FOR_A_MEDIAN = 3
"""Updates of which the middle one says something of the others: with two, it lies between a good and a bad one."""

SMOOTHING = 1e-6
"""Least distance from the geometric median, in parts of the median norm, that counts as one (Pillutla's nu)."""

_KEEP_THE_AVERAGE = ("none", "norm_bound")
_STEPS, _SETTLED = 1000, 1e-12


@dataclass(frozen=True)
class Aggregated:
    """What a rule made of a round's updates.

    Attributes
    ----------
    updates
        Weights and parameters to average, in silo order; those that a rule does not touch are the very ones it got.
    outliers
        Index of an update that was bounded or left out, to what was done and why.
    """

    updates: Updates
    outliers: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RobustAggregation:
    """A rule with its numbers; names and meaning are those of the recipe.

    Attributes
    ----------
    name
        One of :data:`RULES`.
    byzantine
        How many of the updates may be anything, f.
    factor
        Of ``norm_bound``: the largest norm, in multiples of the median norm of the round's updates.
    """

    name: str
    byzantine: int = 0
    factor: float = 5.0

    def apply(self, held: Mapping[str, Tensor], updates: Updates) -> Aggregated:
        """Return what is to be averaged in place of ``updates``, from which nothing is taken away.

        Raises
        ------
        FederationError
            When there are too few for a rule that takes the place of the average. Recipes are checked for it before.
        """
        needed = FEWEST_UPDATES[self.name](self.byzantine or 1) if self.name not in _KEEP_THE_AVERAGE else 0
        if len(updates) < needed:
            raise FederationError(
                f"robust_aggregation: {self.name} needs {needed} updates a round with byzantine_silos: "
                f"{self.byzantine or 1}, and {len(updates)} came; raise min_silos, or take another rule"
            )
        return RULES[self.name](self, UpdateMatrix(held, [sent for _, sent in updates]), updates)


def _none(rule: RobustAggregation, matrix: UpdateMatrix, updates: Updates) -> Aggregated:
    return Aggregated(updates)


def _norm_bound(rule: RobustAggregation, matrix: UpdateMatrix, updates: Updates) -> Aggregated:
    """Scale each update that is beyond ``factor`` times the median norm down to that; weights stay.

    Norm clipping (Sun et al. 2019, arXiv 1911.07963, section 4) with a bound that follows the round.
    """
    if len(updates) < FEWEST_FOR_A_MEDIAN:
        return Aggregated(updates)
    norms = matrix.norms()
    usual = float(np.median(norms))
    bound, bounded, outliers = rule.factor * usual, list(updates), {}
    for index in np.flatnonzero(norms > bound).tolist():
        scale = bound / float(norms[index])
        bounded[index] = updates[index][0], matrix.reduced(partial(_scaled, scale), [index])
        outliers[index] = (
            f"the norm of its update is {norms[index]:.3g}, more than {rule.factor:g} times the round's median, "
            f"{usual:.3g}; it is clipped to that"
        )
    return Aggregated(bounded, outliers)


def _median(rule: RobustAggregation, matrix: UpdateMatrix, updates: Updates) -> Aggregated:
    """Take the median of each coordinate (Yin et al. 2018, arXiv 1803.01498, definition 1); no weights."""
    low, high = (len(updates) - 1) // 2, len(updates) // 2

    def _middle(piece: Rows) -> Rows:
        ranked = _ranked(piece)
        return (ranked[:, low] + ranked[:, high]) / 2

    return Aggregated([(1.0, matrix.reduced(_middle))])


def _trimmed_mean(rule: RobustAggregation, matrix: UpdateMatrix, updates: Updates) -> Aggregated:
    """Take the mean of each coordinate without its f lowest and f highest (definition 2 of that paper); no weights."""
    kept = slice(rule.byzantine, len(updates) - rule.byzantine)
    return Aggregated([(1.0, matrix.reduced(lambda piece: _ranked(piece)[:, kept].mean(axis=1)))])


def _multi_krum(rule: RobustAggregation, matrix: UpdateMatrix, updates: Updates) -> Aggregated:
    """Average the n - f - 2 updates that lie closest to their n - f - 2 nearest others; each alike.

    Blanchard et al. 2017 (arXiv 1703.02757, section 4) for the score; how many may be averaged is from El Mhamdi et al.
    2018 (arXiv 1802.07927, section 2.3). Of equal scores the first in silo order.
    """
    kept = len(updates) - rule.byzantine - 2
    gram = matrix.gram()
    own = np.diag(gram)
    distances = np.maximum(own[:, None] + own[None, :] - 2 * gram, 0.0)
    np.fill_diagonal(distances, np.inf)  # nobody is a neighbour of himself
    scores = np.sort(distances, axis=1)[:, :kept].sum(axis=1)
    chosen = sorted(np.argsort(scores, kind="stable")[:kept].tolist())
    reason = f"left out: {kept} of {len(updates)} updates lie closer to others"
    return Aggregated(
        [(1.0, matrix.reduced(lambda piece: piece.mean(axis=0), chosen))],
        {index: reason for index in range(len(updates)) if index not in chosen},
    )


def _geometric_median(rule: RobustAggregation, matrix: UpdateMatrix, updates: Updates) -> Aggregated:
    """Take the point of the least weighted sum of distances to the updates (Pillutla et al. 2022, arXiv 1912.13445)."""
    weights = np.array([weight for weight, _ in updates], dtype=np.float64)
    shares = geometric_median(matrix.gram(), weights / weights.sum())
    return Aggregated([(1.0, matrix.reduced(lambda piece: shares @ piece))])


def geometric_median(gram: Rows, weights: Vector) -> Vector:
    """Return the shares of n points, which sum to 1, whose mean is their geometric median.

    The smoothed Weiszfeld algorithm (Pillutla et al. 2022, arXiv 1912.13445, algorithm 2), until shares no longer move.
    Each step is on inner products G: the squared distance of point i to ``v = sum of b_j x_j`` is ``G_ii - 2 (G b)_i +
    b' G b``, in which a point that is far away is multiplied by its small share first, and drowns nothing. It begins a
    step from the origin, where such a point has a small share already.

    Parameters
    ----------
    gram
        Inner products of the points, ``[n, n]``.
    weights
        What each point weighs, ``[n]``, summing to 1.
    """
    norms = np.sqrt(np.diag(gram))
    least = SMOOTHING * float(np.median(norms)) or np.finfo(float).tiny
    shares, away = np.zeros(len(gram)), norms
    for _ in range(_STEPS):
        moved = weights / np.maximum(away, least)
        moved /= moved.sum()
        change, shares = float(np.abs(moved - shares).max()), moved
        if change < _SETTLED:
            break
        reached = gram @ shares
        away = np.sqrt(np.maximum(np.diag(gram) - 2 * reached + shares @ reached, 0.0))
    return shares


def _scaled(scale: float, piece: Rows) -> Rows:
    row: Rows = piece[0]
    return np.multiply(scale, row)


def _ranked(piece: Rows) -> Rows:
    """Return the values of each coordinate, ascending, ``[k, n]``; whole rows lie in memory together, to sort fast."""
    ranked = np.ascontiguousarray(piece.T)
    ranked.sort(axis=1)
    return ranked


RULES: dict[str, Callable[[RobustAggregation, UpdateMatrix, Updates], Aggregated]] = {
    "none": _none,
    "norm_bound": _norm_bound,
    "median": _median,
    "trimmed_mean": _trimmed_mean,
    "multi_krum": _multi_krum,
    "geometric_median": _geometric_median,
}
"""Name of a rule in a recipe to what it does."""
