"""The paired bootstrap over test images: how far a difference to zero-shot CLIP may be chance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.study.running.answer_counts import Kinds

RESAMPLES = 10_000
LEVEL = 0.95

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A difference of accuracies and where it may lie.

    Attributes
    ----------
    mean
        The difference, a fraction.
    low, high
        Ends of its 95 % interval.
    """

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``gain`` or ``loss``; ``no difference`` whenever the interval holds 0."""
        if self.low <= 0 <= self.high:
            return "no difference"
        return "gain" if self.mean > 0 else "loss"


def interval(domains: Iterable[Kinds], resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Return the mean difference over domains with Efron's percentile interval.

    Images are resampled with replacement within each domain, and an image is taken with all that is known of
    it: zero-shot's answer, every seed's, and every federation's in which its domain takes part. Seeds and domains are
    fixed: the interval is about other images, not about other seeds.

    Parameters
    ----------
    domains
        For each domain the kinds of its images in all federations together; each domain counts alike, and each answer
        in it.
    seed
        Of the generator: the same results give the same interval.

    Returns
    -------
    Interval or None
        None without any image.

    Notes
    -----
    Percentile interval and pairing after Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13
    and 8. Drawing N images with replacement and counting how often each kind was taken is one multinomial draw over
    the kinds, so it takes no more than how many images are of each. A test split has its own images with every seed,
    so an image may count in some federations only: its kind is its gain and how often it was tried.
    """
    kinds = list(domains)
    if not kinds:
        return None
    rng = np.random.default_rng(seed)
    resampled = np.mean([_resample(rng, kind, resamples) for kind in kinds], axis=0)
    mean = float(np.mean([np.dot(kind.images, kind.gain) / np.dot(kind.images, kind.tried) for kind in kinds]))
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, round(float(low), 12), round(float(high), 12))  # an end at 0 is 0, not 1e-18


def _resample(rng: np.random.Generator, kinds: Kinds, resamples: int) -> Numbers:
    """Return the mean difference of a domain in each of the resampled data sets, ``[resamples]``."""
    count = sum(kinds.images)
    resampled = rng.multinomial(count, np.divide(kinds.images, count), size=resamples)
    return np.asarray((resampled @ np.asarray(kinds.gain)) / (resampled @ np.asarray(kinds.tried)), dtype=np.float64)
