"""What every rank agrees on before training: classes, text features, backbone, and how good an adapter is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedclip_plugin.adapters import scores
from fedclip_plugin.features import FeatureSet, TextFeatures
from fedclip_plugin.runs import SavedAdapter


@dataclass(frozen=True)
class Score:
    """Correct answers among a number of images."""

    correct: int
    count: int

    @property
    def accuracy(self) -> float:
        """Fraction between 0 and 1; 0 for no images."""
        return self.correct / self.count if self.count else 0.0


@dataclass(frozen=True)
class Task:
    """The classification task and the frozen model behind it.

    Attributes
    ----------
    method, backbone, fingerprint, precision
        As in :class:`~fedclip_plugin.runs.SavedAdapter`.
    classes, prompt_template
        Labels in order, and their prompt.
    text
        Text features ``[C, d]`` and logit scale.
    recipe_digest
        Hash of what defines the training.
    """

    method: str
    backbone: str
    fingerprint: str
    precision: str
    classes: tuple[str, ...]
    prompt_template: str
    text: TextFeatures
    recipe_digest: str

    def score(self, adapter: nn.Module | None, data: FeatureSet) -> Score:
        """Return how many images ``adapter`` labels correctly; ``None`` stands for zero-shot CLIP.

        Parameters
        ----------
        adapter
            Maps features ``[N, d]`` to unit-length features ``[N, d]``.
        data
            N labelled image features.
        """
        with torch.no_grad():
            adapted = nn.functional.normalize(data.features, dim=-1) if adapter is None else adapter(data.features)
            text = self.text.features.to(adapted)
            answers = scores(adapted, text, self.text.logit_scale).argmax(-1)
            return Score(int((answers == data.labels).sum()), len(data))

    def saved(self, number: int, tensors: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> SavedAdapter:
        """Return the adapter after round ``number`` in the form that goes to disk."""
        return SavedAdapter(
            method=self.method,
            feature_dim=self.text.features.shape[1],
            backbone=self.backbone,
            fingerprint=self.fingerprint,
            precision=self.precision,
            logit_scale=self.text.logit_scale,
            classes=self.classes,
            prompt_template=self.prompt_template,
            round=number,
            recipe_digest=self.recipe_digest,
            text_features=self.text.features.numpy(),
            tensors={name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()},
            metrics=dict(metrics),
        )
