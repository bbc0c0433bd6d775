"""What a device says of one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedclip_edge.calibration import UNKNOWN
from fedclip_edge.runtime.sessions import Array, Serving


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of one image, best first, and the round that answered.

    Attributes
    ----------
    label
        The answer: the most probable label, or ``unknown`` where that is less probable than the threshold.
    guess, probability
        The most probable label in any case, and its probability.
    known
        Whether the answer is that label; always, where there is no threshold.
    top
        The most probable labels with their probabilities.
    logits
        float32 [C], in the order of the bundle's labels; a calibration of the device's own is not in them.
    key_id
        The key that signed the bundle; None when it was not checked against a key.
    """

    label: str
    guess: str
    probability: float
    known: bool
    top: tuple[tuple[str, float], ...]
    logits: Array
    round: int
    sequence: int
    key_id: str | None

    @classmethod
    def of(cls, serving: Serving, logits: Array, probabilities: Array, top: int) -> Prediction:
        """Return it, of logits and probabilities of one image, both [C]."""
        manifest, calibration = serving.bundle.manifest, serving.calibration
        best = np.argsort(-probabilities, kind="stable")[:top]
        ranked = tuple((manifest.labels[index], float(probabilities[index])) for index in best)
        guess, probability = ranked[0]
        known = calibration is None or probability >= calibration.threshold
        label = guess if known else UNKNOWN
        origin = (manifest.round, manifest.sequence, serving.bundle.key_id)
        return cls(label, guess, probability, known, ranked, logits, *origin)
