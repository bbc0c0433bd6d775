"""What every rank agrees on before training: classes, text features, backbone, and how good an adapter is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedclip_edge.metrics import confusion
from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.features import InputSet, TextFeatures
from fedclip_plugin.methods import Adapter, parameters_of, scores
from fedclip_plugin.methods.registry import ZERO_SHOT
from fedclip_plugin.runs import SavedAdapter


@dataclass(frozen=True)
class Score:
    """Correct answers among a number of images.

    Attributes
    ----------
    correct
        How many images are labelled correctly.
    count
        Of how many.
    """

    correct: int
    count: int

    @property
    def accuracy(self) -> float:
        """Fraction between 0 and 1; 0 for no images."""
        return self.correct / self.count if self.count else 0.0


@dataclass(frozen=True)
class Answers:
    """Labels that an adapter gave to N images."""

    true: Tensor  # class indices, ``[N]`` int64
    predicted: Tensor
    confidence: Tensor  # probability of the predicted class, ``[N]``; NaN where only labels are known
    unscaled: Tensor | None = None  # the same by another scale, where one was asked for

    def cpu(self) -> Answers:
        """Return them on the CPU."""
        unscaled = None if self.unscaled is None else self.unscaled.cpu()
        return Answers(self.true.cpu(), self.predicted.cpu(), self.confidence.cpu(), unscaled)

    @property
    def score(self) -> Score:
        """How many are right."""
        return Score(int((self.predicted == self.true).sum()), len(self.true))

    def confusion(self, classes: int) -> npt.NDArray[np.int64]:
        """Return how many images of each of C classes got which label, ``[C, C]``; row true class."""
        return confusion(self.true.cpu().numpy(), self.predicted.cpu().numpy(), classes)


@dataclass
class AnswerHistory:
    """Every round's answers for a silo's test split, or for the target domain; they stay with the rank."""

    zero_shot: Answers | None = None  # CLIP's without an adapter; None on a server without a target
    positions: npt.NDArray[np.int64] | None = None  # which of its images were tested, ``[N]``; None: all, in order
    rounds: dict[int, tuple[Answers, ...]] = field(default_factory=dict)  # those of the adapter after it

    def note(self, number: int, answers: Iterable[Answers]) -> None:
        """Keep the answers of round ``number``."""
        self.rounds[number] = tuple(own.cpu() for own in answers)


Histories = dict[str, AnswerHistory]
"""A rank's answers by what they are for: its silo, ``target`` on the server, or each source of a simulation there."""


class LabelledLogits(NamedTuple):
    """The logits that an adapter gave to N images of C classes, on the CPU; they stay with the rank."""

    logits: npt.NDArray[np.float32]  # ``[N, C]``
    labels: npt.NDArray[np.int64]


@torch.no_grad()
def logits_by_chunk(
    adapter: Adapter, data: InputSet, classes: Tensor, scale: float | Tensor, biases: Tensor | None = None
) -> Iterator[Tensor]:
    """Yield an adapter's logits of images by class features ``[C, d]``, a factor on products, and biases ``[C]``."""
    for part in data.chunks():
        adapted = adapter(part.inputs)
        yield scores(adapted, classes.to(adapted), scale, None if biases is None else biases.to(adapted))


@torch.no_grad()
def answer(
    adapter: Adapter,
    data: InputSet,
    classes: Tensor,
    scale: float | Tensor,
    biases: Tensor | None = None,
    other: float | None = None,
) -> Answers:
    """Return how an adapter labels images by class features ``[C, d]``, a factor on products, and biases ``[C]``.

    With an `other` factor the confidences by that one are told too.
    """
    labels, confidences, unscaled = [], [], []
    for logits in logits_by_chunk(adapter, data, classes, scale, biases):
        labels.append(logits.argmax(-1))
        confidences.append(logits.softmax(-1).amax(-1))
        if other is not None:
            unscaled.append((logits * (other / scale)).softmax(-1).amax(-1))
    plain = torch.cat(unscaled) if unscaled else None
    return Answers(data.labels, torch.cat(labels), torch.cat(confidences), plain)


@dataclass(frozen=True)
class Task:
    """The classification task and the frozen model behind it."""

    method: str
    backbone: str
    fingerprint: str
    precision: str
    classes: tuple[str, ...]  # labels in order
    prompt_template: str
    text: TextFeatures  # text features ``[C, d]`` and logit scale
    recipe_digest: str
    sample_range: SampleRange | None = None  # what is black and white in samples of more than 8 bits
    start: str = ZERO_SHOT  # what training starts from

    def answer(self, adapter: Adapter, data: InputSet) -> Answers:
        """Return how ``adapter`` labels images; :class:`~fedclip_plugin.methods.ZeroShot` is CLIP without one."""
        text = data.text_beside(self.text)
        with torch.no_grad():
            return answer(adapter, data, adapter.class_features(text), adapter.scale(text), adapter.class_biases(text))

    def labels(self, adapter: Adapter, data: InputSet) -> Tensor:
        """Return the class indices of :meth:`answer` alone, ``[N]``: without probabilities, for many images."""
        return torch.cat([logits.argmax(-1) for logits in self._chunks(adapter, data)])

    def logits(self, adapter: Adapter, data: InputSet) -> LabelledLogits:
        """Return the logits that ``adapter`` gives to images, and their labels."""
        parts = [part.float().cpu() for part in self._chunks(adapter, data)] or [torch.empty(0, len(self.classes))]
        return LabelledLogits(torch.cat(parts).numpy(), data.labels.cpu().numpy())

    @torch.no_grad()
    def _chunks(self, adapter: Adapter, data: InputSet) -> Iterator[Tensor]:
        text = data.text_beside(self.text)
        classes, biases = adapter.class_features(text), adapter.class_biases(text)
        yield from logits_by_chunk(adapter, data, classes, adapter.scale(text), biases)

    def score(self, adapter: Adapter, data: InputSet) -> Score:
        """Return how many of ``data``'s images ``adapter`` labels correctly; see :meth:`answer`."""
        return self.answer(adapter, data).score

    def saved(self, number: int, adapter: Adapter, metrics: Mapping[str, Any]) -> SavedAdapter:
        """Return ``adapter``, after round ``number``, in the form that goes to disk."""
        with torch.no_grad():
            classes = adapter.class_features(self.text)
            scale, biases = float(adapter.scale(self.text)), adapter.class_biases(self.text)
        return SavedAdapter(
            method=self.method,
            feature_dim=self.text.features.shape[1],
            backbone=self.backbone,
            fingerprint=self.fingerprint,
            precision=self.precision,
            logit_scale=scale,
            classes=self.classes,
            prompt_template=self.prompt_template,
            round=number,
            recipe_digest=self.recipe_digest,
            text_features=self.text.features.numpy(),
            tensors={name: tensor.numpy() for name, tensor in parameters_of(adapter).items()},
            metrics=dict(metrics),
            class_features=classes.detach().float().cpu().numpy() if adapter.trains_classes else None,
            class_biases=None if biases is None else biases.detach().float().cpu().numpy(),
            sample_range=self.sample_range,
            start=self.start,
        )
