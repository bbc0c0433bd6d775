"""How well confidences agree with accuracies: reliability, and the expected calibration error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """How confidence and accuracy agree, by bins of equal width of the confidence.

    Attributes
    ----------
    counts
        Images in each of the M bins, ``[M]``.
    accuracy, confidence
        Means over the images of each bin, ``[M]``; NaN where a bin is empty.
    error
        Expected calibration error: the mean of ``|accuracy - confidence|`` over the bins, weighed by their images.
    """

    counts: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    error: float

    @property
    def chance(self) -> float:
        """The error to be expected of a classifier with these confidences that is perfectly calibrated.

        It is not 0: of n images with a confidence of p, n p are right only on average. Every image of a bin is taken to
        have the bin's mean confidence.
        """
        bins = zip(self.counts.tolist(), self.confidence.tolist(), strict=True)
        return sum(_deviation(images, rate) for images, rate in bins if images) / int(self.counts.sum())

    @classmethod
    def of_sums(
        cls, counts: npt.NDArray[np.int64], right: npt.NDArray[np.int64], confidence: npt.NDArray[np.float64]
    ) -> Self:
        """Return it for sums over the images of each bin, ``[M]``: images, right answers, confidences."""
        with np.errstate(invalid="ignore"):
            accuracy, mean = right / counts, confidence / counts
        error = float(np.nansum(counts * np.abs(accuracy - mean)) / counts.sum())
        return cls(counts, accuracy, mean, error)


def _deviation(images: int, rate: float) -> float:
    """Return the mean absolute deviation of a binomial number from its mean, by de Moivre's formula.

    ``E|K - n p| = 2 v C(n, v) p^v (1 - p)^(n - v + 1)`` with ``v = floor(n p) + 1``.
    """
    if not 0 < rate < 1:
        return 0.0
    above = min(math.floor(images * rate) + 1, images)
    ways = math.lgamma(images + 1) - math.lgamma(above + 1) - math.lgamma(images - above + 1)
    return 2 * above * math.exp(ways + above * math.log(rate) + (images - above + 1) * math.log1p(-rate))


def reliability(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Bin answers by confidence; bin m of M holds the confidences in ``((m - 1) / M, m / M]``.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 2, 3 and 5 (after Naeini et al., AAAI
    2015), with their 15 bins.

    Parameters
    ----------
    confidence
        Probability of each answer, ``[N]``, N at least 1.
    """
    return Reliability.of_sums(*bin_sums(confidence, correct, bins))


def bin_sums(
    confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], bins: int = BINS
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return for each bin of :func:`reliability` how many images, right answers, and the sum of the confidences."""
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    counts, right = (np.bincount(some, minlength=bins).astype(np.int64) for some in (place, place[correct]))
    return counts, right, np.bincount(place, weights=confidence, minlength=bins).astype(np.float64)
