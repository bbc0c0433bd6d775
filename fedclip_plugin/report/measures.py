"""Numbers behind the figures on answers: confusion matrix and calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15


@dataclass(frozen=True)
class Calibration:
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


def calibrate(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], bins: int = BINS) -> Calibration:
    """Bin answers by confidence; bin m of M holds the confidences in ``((m - 1) / M, m / M]``.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equations 2, 3 and 5 (after Naeini et al., AAAI
    2015), with their 15 bins.

    Parameters
    ----------
    confidence
        Probability of each answer, ``[N]``, N at least 1.
    correct
        Whether it is right, ``[N]``.
    bins
        M.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(place, weights=correct, minlength=bins) / counts
        mean = np.bincount(place, weights=confidence, minlength=bins) / counts
    error = float(np.nansum(counts * np.abs(accuracy - mean)) / counts.sum())
    return Calibration(counts, accuracy, mean, error)


def confusion(true: npt.NDArray[np.int64], answered: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """Count answers by class.

    Parameters
    ----------
    true, answered
        Class indices, ``[N]``.
    classes
        C.

    Returns
    -------
    array of int64
        ``[C, C]``; row true class, column answer.
    """
    cells = true * classes + answered
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
