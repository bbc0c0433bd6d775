"""A gate that starts exactly at zero-shot CLIP: FedCLIP's attention with a sigmoid, its last layer at zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedclip_plugin.methods.base import Adapter


class SigmoidGate(Adapter):
    """Weigh every dimension of an image feature by a learned gate between 0 and 2.

    ``f' = 2 sigmoid(W2 tanh(W1 f + b1) + b2) * f``, then unit length. W2 and b2 are zero at first, so that every gate
    is 1 and round 0 is zero-shot CLIP; dimensions do not compete for a sum of 1 as under FedCLIP's softmax.

    Shapes: B images in a batch, d feature width. Parameters: ``2 (d^2 + d)``; 525,312 for d = 512.

    Parameters
    ----------
    feature_dim
        d.
    generator
        Source of the first layer's initial weights (uniform as ``torch.nn.Linear`` has it).
    dtype
        Of the parameters.
    """

    def __init__(
        self, feature_dim: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(feature_dim, feature_dim, dtype=dtype)
        self.gate = nn.Linear(feature_dim, feature_dim, dtype=dtype)
        bound = 1 / math.sqrt(feature_dim)
        for parameter in self.hidden.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        for parameter in self.gate.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return adapted features of unit length, ``[B, d]``, from features as the backbone gives them."""
        gates = 2 * torch.sigmoid(self.gate(torch.tanh(self.hidden(inputs))))
        return nn.functional.normalize(gates * inputs, dim=-1)
