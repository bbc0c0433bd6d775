"""How one classifier labels a set of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Labelled:
    """The answers of one classifier.

    Attributes
    ----------
    predicted
        Class indices, ``[N]``.
    confidence
        Their probabilities, ``[N]``.
    """

    predicted: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
