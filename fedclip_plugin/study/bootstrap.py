"""The paired bootstrap over test images: how far a difference to zero-shot CLIP may be chance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, eq=False)
class Paired:
    """Differences of correctness for some images of one domain, from one federation.

    Attributes
    ----------
    images
        Which image of the domain each one is, ``[N]``.
    difference
        Share of adapters that are right, less 1 if zero-shot CLIP is, ``[N]``, within -1 and 1.
    """

    images: NDArray[np.int64]
    difference: Numbers


def interval(domains: Iterable[Sequence[Paired]], resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Return the mean difference over domains with Efron's percentile interval.

    Images are resampled with replacement within each domain, and an image is drawn together with all that is known of
    it: zero-shot's answer, every seed's, and every federation's in which its domain takes part. Seeds and domains are
    fixed: the interval is about other images, not about other seeds.

    Parameters
    ----------
    domains
        For each domain one entry a federation; each federation of a domain counts alike, and so does each domain.
    resamples
        How many data sets are drawn.
    seed
        Of the generator: the same results give the same interval.

    Returns
    -------
    Interval or None
        None without any image.

    Notes
    -----
    Percentile interval and pairing after Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13
    and 8. Drawing N images with replacement and counting how often each kind was drawn is one multinomial draw over
    the kinds, and an image's kind is the pair of its difference and its weight: a few values, however many images.
    """
    kinds = [_kinds(paired) for paired in domains if paired]
    if not kinds:
        return None
    rng = np.random.default_rng(seed)
    drawn = np.mean([_resample(rng, *kind, resamples) for kind in kinds], axis=0)
    mean = float(np.mean([(counts * total).sum() / (counts * weight).sum() for total, weight, counts in kinds]))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, round(float(low), 12), round(float(high), 12))  # an end at 0 is 0, not 1e-18


def _kinds(federations: Sequence[Paired]) -> tuple[Numbers, Numbers, NDArray[np.int64]]:
    """Return the kinds of images of a domain: difference in total, weight in total, and how many images are so.

    A test split has its own images with every seed, so an image may count in some federations only; its weight is the
    sum of 1 / N over the splits that hold it.
    """
    images, index = np.unique(np.concatenate([paired.images for paired in federations]), return_inverse=True)
    weights = np.concatenate([np.full(len(paired.images), 1 / len(paired.images)) for paired in federations])
    differences = np.concatenate([paired.difference for paired in federations])
    total = np.bincount(index, weights * differences, len(images))
    weight = np.bincount(index, weights, len(images))
    kinds, counts = np.unique(np.round(np.stack([total, weight], 1), 12), axis=0, return_counts=True)
    return kinds[:, 0], kinds[:, 1], counts


def _resample(
    rng: np.random.Generator, total: Numbers, weight: Numbers, counts: NDArray[np.int64], resamples: int
) -> Numbers:
    """Return the mean difference of a domain in each of the resampled data sets, ``[resamples]``."""
    drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
    return np.asarray((drawn @ total) / (drawn @ weight), dtype=np.float64)
