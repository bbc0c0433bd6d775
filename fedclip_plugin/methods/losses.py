"""The loss that trains an adapter and the scores that it is judged by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def scores(adapted: Tensor, text_features: Tensor, logit_scale: float | Tensor) -> Tensor:
    """Return class logits ``[B, C]`` of unit-length image features ``[B, d]`` and class features ``[C, d]``."""
    return logit_scale * adapted @ text_features.T


def contrastive_loss(adapted: Tensor, text_features: Tensor, labels: Tensor, logit_scale: float | Tensor) -> Tensor:
    """Return CLIP's symmetric in-batch contrastive loss, as the reference trains with.

    Every image is paired with the prompt of its own class: row i of the similarity matrix should pick column i, and
    column i row i. Images of one class share one text vector; the gradient is that of the multi-positive loss.
    """
    similarity = scores(adapted, text_features[labels], logit_scale)
    pairs = torch.arange(len(labels), device=labels.device)
    return (cross_entropy(similarity, pairs) + cross_entropy(similarity.T, pairs)) / 2
