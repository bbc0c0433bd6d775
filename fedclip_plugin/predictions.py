"""What a classifier says: of one image, and of a folder of labelled ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from fedclip_edge.calibration import UNKNOWN
from fedclip_edge.metrics import ClassMetrics
from fedclip_edge.reliability import Reliability, reliability
from fedclip_plugin.data import UnreadableImageError
from fedclip_plugin.federated.roles.task import Answers


class Prediction(dict[str, float]):
    """The most probable labels of one image and their probabilities, the best first.

    Attributes
    ----------
    known
        Whether the best one is probable enough to be the answer; always, where the adapter has no threshold.
    """

    known: bool = True

    @classmethod
    def of(cls, labels: dict[str, float], threshold: float) -> Self:
        """Return it, of labels in order."""
        made = cls(labels)
        made.known = next(iter(labels.values())) >= threshold
        return made

    @property
    def guess(self) -> str:
        """The most probable label."""
        return next(iter(self))

    @property
    def label(self) -> str:
        """The answer: the most probable label, or ``unknown``."""
        return self.guess if self.known else UNKNOWN


@dataclass(frozen=True, repr=False)
class Evaluation:
    """How an adapter and zero-shot CLIP label the readable images of one folder, on the CPU, with their score.

    The adapter's confidences are those at its temperature, `uncalibrated` those without it, ``[N]``.
    """

    zero_shot: Answers
    adapter: Answers
    kept: list[int]  # indices of the readable images in the folder's list
    faults: list[UnreadableImageError]  # one for each image that was left out
    classes: tuple[str, ...]
    uncalibrated: torch.Tensor
    threshold: float = 0.0  # of the adapter; a lower confidence is ``unknown``

    def __repr__(self) -> str:
        count, own, other = len(self.kept), self.metrics.accuracy, self.zero_shot_metrics.accuracy
        return f"Evaluation({count} images, accuracy {own:.3f}, zero-shot CLIP {other:.3f})"

    @property
    def metrics(self) -> ClassMetrics:
        """The adapter's accuracy, recall of each class, balanced accuracy and macro F1."""
        return ClassMetrics.of(self.adapter.confusion(len(self.classes)))

    @property
    def zero_shot_metrics(self) -> ClassMetrics:
        """The same of zero-shot CLIP."""
        return ClassMetrics.of(self.zero_shot.confusion(len(self.classes)))

    @property
    def reliability(self) -> Reliability:
        """How the adapter's confidences agree with its accuracy, at its temperature."""
        return self._reliability(self.adapter.confidence)

    @property
    def uncalibrated_reliability(self) -> Reliability:
        """The same without the temperature."""
        return self._reliability(self.uncalibrated)

    @property
    def unknown(self) -> float:
        """Share of the images that the adapter answers with ``unknown``."""
        return float((self.adapter.confidence < self.threshold).double().mean())

    def _reliability(self, confidence: torch.Tensor) -> Reliability:
        right = self.adapter.predicted == self.adapter.true
        return reliability(confidence.double().numpy(), right.numpy())
