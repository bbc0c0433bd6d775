"""The loss that trains an adapter and the scores that it is judged by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def scores(adapted: Tensor, text_features: Tensor, logit_scale: float | Tensor, biases: Tensor | None = None) -> Tensor:
    """Return class logits ``[B, C]`` of unit-length image features ``[B, d]`` and class features ``[C, d]``.

    Biases ``[C]``, where there are some, are multiplied by the factor too.
    """
    logits = logit_scale * adapted @ text_features.T
    return logits if biases is None else logits + logit_scale * biases


PADDING = -1
"""Label of a row that fills a batch up and counts for nothing."""

_NOTHING = -1e30
"""Similarity of what is not there: no exponential of it is above 0, and unlike infinity it has a gradient, 0."""


def contrastive_loss(
    adapted: Tensor, text_features: Tensor, labels: Tensor, logit_scale: float | Tensor, padded: bool = False
) -> Tensor:
    """Return CLIP's symmetric in-batch contrastive loss, as the reference trains with.

    Every image is paired with the prompt of its own class: row i of the similarity matrix should pick column i, and
    column i row i. Images of one class share one text vector; the gradient is that of the multi-positive loss. Rows of
    label :data:`PADDING` count for nothing, where the batch is ``padded``.
    """
    if padded:
        return _padded_contrastive_loss(adapted, text_features, labels, logit_scale)
    similarity = scores(adapted, text_features[labels], logit_scale)
    pairs = torch.arange(len(labels), device=labels.device)
    return (cross_entropy(similarity, pairs) + cross_entropy(similarity.T, pairs)) / 2


def _padded_contrastive_loss(
    adapted: Tensor, text_features: Tensor, labels: Tensor, logit_scale: float | Tensor
) -> Tensor:
    there = labels != PADDING
    similarity = scores(adapted, text_features[labels.clamp(min=0)], logit_scale)
    similarity = similarity.where(there[:, None] & there[None, :], _NOTHING)
    pairs = torch.arange(len(labels), device=labels.device).where(there, PADDING)
    by_image = cross_entropy(similarity, pairs, ignore_index=PADDING)
    return (by_image + cross_entropy(similarity.T, pairs, ignore_index=PADDING)) / 2
