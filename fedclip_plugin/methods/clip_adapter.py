"""CLIP-Adapter: a bottleneck, mixed into the image feature (Gao et al., arXiv 2110.04544, section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedclip_plugin.methods.base import Adapter
from fedclip_plugin.recipe.methods import CLIP_ADAPTER_RATIO, CLIP_ADAPTER_REDUCTION


class ClipAdapter(Adapter):
    """Mix the result of a bottleneck into the image feature.

    ``f' = 0.2 relu(W2 relu(W1 f)) + 0.8 f``, then unit length; no biases, as the paper's code.

    Shapes: B images in a batch, d feature width. Parameters: ``d^2 / 2``; 131,072 for d = 512.

    Parameters
    ----------
    feature_dim
        d.
    generator
        Source of the initial weights (uniform as ``torch.nn.Linear`` has it).
    dtype
        Of the parameters.
    """

    def __init__(
        self, feature_dim: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        width = max(1, feature_dim // CLIP_ADAPTER_REDUCTION)
        self.down = nn.Linear(feature_dim, width, bias=False, dtype=dtype)
        self.up = nn.Linear(width, feature_dim, bias=False, dtype=dtype)
        for layer in (self.down, self.up):
            bound = 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return adapted features of unit length, ``[B, d]``, from features as the backbone gives them."""
        bottleneck = torch.relu(self.up(torch.relu(self.down(inputs))))
        return nn.functional.normalize(CLIP_ADAPTER_RATIO * bottleneck + (1 - CLIP_ADAPTER_RATIO) * inputs, dim=-1)
