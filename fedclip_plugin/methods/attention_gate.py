"""FedCLIP's adapter: an attention gate on the image feature (arXiv 2302.13485, section 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedclip_plugin.methods.base import Adapter


class AttentionGate(Adapter):
    """Weigh every dimension of an image feature by a learned softmax gate.

    ``a(f) = softmax(W2 tanh(W1 f + b1) + b2)``, ``f' = a(f) * f``, then unit length: the reference's
    ``Linear, Tanh, Linear, Softmax`` on the image feature. A gate that is uniform changes nothing, so an untrained
    adapter scores about zero-shot.

    Shapes: B images in a batch, d feature width. Parameters: ``2 (d^2 + d)``; 525,312 for d = 512.

    Parameters
    ----------
    feature_dim
        d.
    generator
        Source of the initial weights (uniform as ``torch.nn.Linear`` has it).
    dtype
        Of the parameters; float32 in training, float64 in exactness tests.
    """

    def __init__(
        self, feature_dim: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(feature_dim, feature_dim, dtype=dtype)
        self.gate = nn.Linear(feature_dim, feature_dim, dtype=dtype)
        bound = 1 / math.sqrt(feature_dim)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return adapted features of unit length.

        Parameters
        ----------
        inputs
            Image features as the backbone gives them, ``[B, d]``.

        Returns
        -------
        Tensor
            ``[B, d]``, each row of length 1.
        """
        attention = torch.softmax(self.gate(torch.tanh(self.hidden(inputs))), dim=-1)
        return nn.functional.normalize(attention * inputs, dim=-1)
