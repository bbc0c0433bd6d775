"""What the device answers about one image, and which round said it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of one image.

    Attributes
    ----------
    label, probability
        The most probable label, and its probability.
    top
        The most probable labels with their probabilities, best first.
    logits
        float32 [C], in the order of the bundle's labels.
    round, sequence
        The federation round whose head answered, and its bundle's sequence.
    key_id
        The key that signed that bundle; None when it was not checked against a key.
    """

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    logits: NDArray[np.float32]
    round: int
    sequence: int
    key_id: str | None
