"""What a silo's training says of one image at most: (epsilon, delta), from its noise and how often it drew images.

The mechanism is the Gaussian one on Poisson samples, composed over steps; neighbouring training splits differ in one
image that is there or not. Where every image is in every step the curve is exact; else it is opacus's, by numerical
composition of privacy loss random variables (Gopi et al. 2021, arXiv 2106.02848), as an upper bound. opacus and scipy
are imported when they are asked for and not before: that takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from fedclip_plugin.recipe.schema.types import LEAST_NOISE, MOST_NOISE

_SHARE = 0.004
"""By which share of the epsilon of all rounds a bound may be above the truth, about."""

_SMALLEST = 1e-3  # error of epsilon that is small enough
_LOOSE = 100.0  # epsilon above which the simpler bound does
_WIDEST = 2**22  # points of a discrete distribution
_CLOSE = 1.005  # how much noise may be above the least that does


@dataclass(frozen=True)
class Mechanism:
    """What a silo does in one round.

    Attributes
    ----------
    noise_multiplier
        Standard deviation of the noise, as a multiple of the most that an image can change.
    rate
        Probability with which an image takes part in a step; 1: all do.
    steps
        Steps of a round.
    """

    noise_multiplier: float
    rate: float
    steps: int

    def epsilon(self, rounds: int, delta: float, planned: int = 1) -> float:
        """Return the epsilon, for ``delta``, of that many rounds of this; ``planned`` says of how many it is asked."""
        return _curve(self, delta, max(rounds, planned)).epsilon(rounds) if rounds else 0.0

    def bound(self, rounds: int, delta: float) -> float:
        """Return a bound that is up to a tenth larger, and takes less time."""
        return _curve(self, delta, 1).simple(rounds)


class _Curve:
    """Epsilon of a mechanism by the number of rounds; what is costly is computed once, for all that are planned."""

    def __init__(self, mechanism: Mechanism, delta: float, planned: int) -> None:
        self._mechanism, self._delta, self._planned = mechanism, delta, planned
        self._known: dict[int, float] = {}

    def epsilon(self, rounds: int) -> float:
        """Return the best bound that there is."""
        if rounds not in self._known:
            self._known[rounds] = self._numerical(rounds)
        return self._known[rounds]

    def simple(self, rounds: int) -> float:
        """Return the exact value where all images are in all steps, else that by Renyi divergences.

        Those are Mironov's (2017, arXiv 1702.07476).
        """
        steps, own = rounds * self._mechanism.steps, self._mechanism
        if own.rate >= 1:
            return gaussian_epsilon(math.sqrt(steps) / own.noise_multiplier, self._delta)
        from opacus.accountants.analysis.rdp import get_privacy_spent

        orders, once = _divergences(own.noise_multiplier, own.rate)
        found, _ = get_privacy_spent(orders=orders, rdp=once * steps, delta=self._delta)
        return float(found)

    def _numerical(self, rounds: int) -> float:
        simple = self.simple(rounds)
        if self._mechanism.rate >= 1 or simple > _LOOSE or self._once is None:
            return simple
        from opacus.accountants.analysis import prv

        once, error = self._once
        try:
            composed = prv.compose_heterogeneous([once], [rounds * self._mechanism.steps])
            return min(simple, float(composed.compute_epsilon(self._delta, self._delta / 1000, error)[2]))
        except (RuntimeError, ValueError):  # the numbers are too small for it: the simpler bound holds all the same
            return simple

    @cached_property
    def _once(self) -> tuple[Any, float] | None:
        """The distribution of one step's privacy loss and its error, on a grid for all steps; None where none does."""
        from opacus.accountants.analysis import prv

        most, tail = self._planned * self._mechanism.steps, self._delta / 1000
        error = max(_SMALLEST, _SHARE * self.simple(self._planned))
        once = prv.PoissonSubsampledGaussianPRV(self._mechanism.rate, self._mechanism.noise_multiplier)
        half = prv.compute_safe_domain_size([once], [most], error, tail)
        mesh = error / math.sqrt(most * math.log(12 / tail) / 2)
        if 2 * half / mesh > _WIDEST:
            return None
        domain = prv.Domain.create_aligned(-half, half, mesh)
        try:
            return prv.discretize(prv.TruncatedPrivacyRandomVariable(once, domain.t_min, domain.t_max), domain), error
        except (RuntimeError, ValueError):
            return None


@lru_cache(maxsize=64)
def _curve(mechanism: Mechanism, delta: float, planned: int) -> _Curve:
    return _Curve(mechanism, delta, planned)


@lru_cache(maxsize=64)
def _divergences(noise_multiplier: float, rate: float) -> tuple[list[float], Any]:
    """Return orders, and the Renyi divergences of one step at them."""
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

    orders = RDPAccountant.DEFAULT_ALPHAS
    return orders, compute_rdp(q=rate, noise_multiplier=noise_multiplier, steps=1, orders=orders)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the epsilon of a Gaussian mechanism, exactly: mu is sensitivity by standard deviation.

    It solves ``delta = Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu)`` (Balle and Wang 2018, arXiv 1805.06530, theorem
    8). T such mechanisms together are one of ``sqrt(T) mu`` (Dong et al. 2022, arXiv 1905.02383, corollary 3.3).
    """
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    def _beyond(epsilon: float) -> float:
        first, second = log_ndtr(mu / 2 - epsilon / mu), epsilon + log_ndtr(-mu / 2 - epsilon / mu)
        return float(first + math.log1p(-math.exp(min(second - first, -1e-300))) - math.log(delta))

    if _beyond(0.0) <= 0:
        return 0.0
    most = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1.0
    return float(brentq(_beyond, 0.0, most, xtol=1e-12))


@lru_cache(maxsize=64)
def noise_multiplier_for(epsilon: float, delta: float, rate: float, steps: int, rounds: int) -> float:
    """Return about the smallest noise multiplier whose epsilon over all rounds is at most ``epsilon``.

    The simpler bound says where to look, and the better one looks from there downwards.
    """

    def _spends(noise: float) -> float:
        return Mechanism(noise, rate, steps).epsilon(rounds, delta, rounds)

    high = _smallest(lambda noise: Mechanism(noise, rate, steps).bound(rounds, delta) <= epsilon, LEAST_NOISE, _CLOSE)
    low = max(LEAST_NOISE, 0.8 * high)
    if rate >= 1 or high <= LEAST_NOISE or _spends(low) <= epsilon:
        return high if rate >= 1 else low
    return _smallest(lambda noise: _spends(noise) <= epsilon, low, _CLOSE, high)


def _smallest(holds: Callable[[float], bool], low: float, close: float, high: float = MOST_NOISE) -> float:
    """Return a number for which a rule holds, within ``close`` of the smallest; it holds for all larger ones."""
    top = low
    while top < high and not holds(top):
        low, top = top, min(high, 2 * top)
    while top > low * close:
        middle = math.sqrt(low * top)
        low, top = (low, middle) if holds(middle) else (middle, top)
    return top
