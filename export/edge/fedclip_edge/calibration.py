"""A temperature for confidences, and the threshold below which an answer is ``unknown``; both come from sums.

A confidence is the largest softmax probability of an image's logits, divided by the temperature: it is what every host
shows already, needs nothing but the logits, and keeps the order of the labels. Guo et al., On Calibration of Modern
Neural Networks, ICML 2017, section 4.2, fit the temperature; Hendrycks and Gimpel, ICLR 2017, take the probability for
telling known images from others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

UNKNOWN: str = "unknown"
"""The label of an answer whose confidence is below the threshold."""

TEMPERATURES: tuple[float, ...] = tuple(2.0 ** (step / 4) for step in range(-24, 17))
"""Those at which likelihoods are summed up: four an octave, from 1/64 to 16."""

LEAST_IMAGES, LEAST_REJECTED = 20, 2
"""Fewest images to calibrate with, and how many of them must be below the threshold."""

_LOWEST, _STEP, CONFIDENCE_BINS = -8.0, 0.05, 440
"""Bins of the log-odds of a confidence: from 0.03 % to all but one in a million."""

_MILLION = 1_000_000
_LARGEST_TEMPERATURE = 1e6

CALIBRATION_RULE: str = (
    "an object of temperature (above 0, at most 1,000,000), threshold (from 0, below 1), false_reject_rate (from 0, "
    "below 1) and images (a whole number of 1 or more)"
)
"""What a calibration must be."""

Counts = NDArray[np.int64]
Logits = NDArray[Any]


@dataclass(frozen=True)
class Calibration:
    """What confidences are worth, and which are too low.

    Attributes
    ----------
    temperature
        What logits are divided by.
    threshold
        An answer of a lower confidence is ``unknown``; 0: none is.
    false_reject_rate
        Share of the images that it was set with that are below the threshold, as it was asked for.
    images
        How many images it was set with, all of known classes.
    """

    temperature: float
    threshold: float
    false_reject_rate: float
    images: int

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        """Return it from JSON that :func:`is_calibration` holds for."""
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


def is_calibration(value: object) -> bool:
    """Return whether something from JSON is a calibration; see `CALIBRATION_RULE`."""
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(Calibration)}:
        return False
    numbers = (value["temperature"], value["threshold"], value["false_reject_rate"])
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers):
        return False
    temperature, *shares = numbers
    images = value["images"]
    whole = isinstance(images, int) and not isinstance(images, bool) and 1 <= images < 2**53
    return 0 < temperature <= _LARGEST_TEMPERATURE and all(0 <= share < 1 for share in shares) and whole


def least_images(rate: float) -> int:
    """Return how many images a calibration at this false-reject rate needs; they are of known classes, with labels."""
    return max(LEAST_IMAGES, math.ceil(LEAST_REJECTED / rate) if rate else 0)


def too_few(images: int, rate: float) -> str | None:
    """Return what is wrong with calibrating on so few images, one sentence; None when nothing is."""
    least = least_images(rate)
    if images >= least:
        return None
    return (
        f"{images} labelled images are too few to calibrate with: a false-reject rate of {100 * rate:g} % takes "
        f"{least} or more, so that {LEAST_REJECTED} of them are below the threshold"
    )


def likelihoods(logits: Logits, labels: Counts) -> Counts:
    """Return the summed negative log likelihood at each of :data:`TEMPERATURES`, in millionths.

    Whole numbers, rounded image by image: their sum over silos is the same in any order.

    Parameters
    ----------
    logits, labels
        Of N images, ``[N, C]`` and ``[N]``.
    """
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    own = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    sums = []
    for temperature in TEMPERATURES:
        losses = np.log(np.exp(shifted / temperature).sum(axis=1)) - own / temperature
        sums.append(np.rint(losses * _MILLION).astype(np.int64).sum())
    return np.array(sums, np.int64)


def fitted_temperature(sums: Counts) -> float:
    """Return the temperature of the highest likelihood, from sums of :func:`likelihoods`, ``[G]``.

    The lowest sum and its neighbours are joined by a parabola over the logarithm of the temperature, at whose foot the
    temperature lies; at an end of the grid it is that end.
    """
    best = int(np.argmin(sums))
    if 0 < best < len(TEMPERATURES) - 1:
        before, lowest, after = (float(one) for one in sums[best - 1 : best + 2])
        curvature = before - 2 * lowest + after
        shift = (before - after) / (2 * curvature) if curvature > 0 else 0.0
        return float(f"{TEMPERATURES[best] * 2.0 ** (shift / 4):.4g}")
    return TEMPERATURES[best]


def confidences(logits: Logits, temperature: float) -> NDArray[np.float64]:
    """Return the confidence of each of N images, ``[N]``, from logits ``[N, C]``."""
    return 1 / (1 + _others(logits, temperature))


def confidence_counts(logits: Logits, temperature: float) -> Counts:
    """Count images by confidence, ``[B]``: :data:`CONFIDENCE_BINS` bins of equal width of its log-odds."""
    with np.errstate(divide="ignore"):
        odds = -np.log(_others(logits, temperature))
    place = np.clip(np.floor((odds - _LOWEST) / _STEP), 0, CONFIDENCE_BINS - 1).astype(np.int64)
    return np.bincount(place, minlength=CONFIDENCE_BINS).astype(np.int64)


def threshold_at(counts: Counts, rate: float) -> float:
    """Return the threshold below which about a share `rate` of counted images is, from :func:`confidence_counts`.

    It is the edge of a bin that comes closest to that share, rounded to nine digits; 0 for a rate of 0.
    """
    if not rate:
        return 0.0
    edge = int(np.argmin(np.abs(_below(counts) - rate * counts.sum())))
    return 0.0 if edge == 0 else float(f"{1 / (1 + math.exp(-(_LOWEST + _STEP * edge))):.9g}")


def share_below(counts: Counts, threshold: float) -> float:
    """Return the share of counted images below a threshold that :func:`threshold_at` gave for other counts."""
    if not threshold:
        return 0.0
    edge = round((math.log(threshold / (1 - threshold)) - _LOWEST) / _STEP)
    return float(_below(counts)[edge] / max(1, counts.sum()))


def calibration_of(logits: Logits, labels: Counts, rate: float) -> Calibration:
    """Return the calibration of N labelled images, all of them at hand; see :func:`too_few`."""
    temperature = fitted_temperature(likelihoods(logits, labels))
    threshold = threshold_at(confidence_counts(logits, temperature), rate)
    return Calibration(temperature, threshold, rate, len(labels))


def ranked_above(known: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve: how often an image of a known class is more confident than another one.

    Pairs of equal confidence count half (Mann and Whitney 1947). Both hold one confidence or more.
    """
    ordered = np.sort(others)
    lower, upper = (np.searchsorted(ordered, known, side=side) for side in ("left", "right"))
    return float((lower + upper).mean() / (2 * len(others)))


def _below(counts: Counts) -> Counts:
    """Return how many images are below each edge of the bins, the last one left out, ``[B]``."""
    below: Counts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return below


def _others(logits: Logits, temperature: float) -> NDArray[np.float64]:
    """Return by how much all other labels together outweigh an image's first one, ``[N]``: sum of exp(z - z_first)."""
    ordered = np.sort(np.asarray(logits, np.float64), axis=1)
    ratios: NDArray[np.float64] = np.exp((ordered[:, :-1] - ordered[:, -1:]) / temperature).sum(axis=1)
    return ratios
