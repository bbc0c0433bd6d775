"""CLIP-Adapter: a bottleneck, mixed into the image feature (Gao et al., arXiv 2110.04544, section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedclip_plugin.methods.base import Adapter, AdapterInputs, HeadGraph
from fedclip_plugin.methods.registry import CLIP_ADAPTER_REDUCTION

RATIO = 0.2
"""Share of the bottleneck's result in the feature."""


class ClipAdapter(Adapter):
    """Mix the result of a bottleneck into the image feature.

    ``f' = 0.2 relu(W2 relu(W1 f)) + 0.8 f``, then unit length; no biases, as the paper's code. Initial weights are
    uniform as ``torch.nn.Linear`` has them.

    Shapes: B images in a batch, d feature width. Parameters: ``d^2 / 2``; 131,072 for d = 512.
    """

    batches_clients = True

    def __init__(
        self, frozen: AdapterInputs, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        width, inner = frozen.feature_dim, _inner(frozen.feature_dim)
        self.down = nn.Linear(width, inner, bias=False, dtype=dtype)
        self.up = nn.Linear(inner, width, bias=False, dtype=dtype)
        for layer in (self.down, self.up):
            bound = 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return adapted features of unit length, ``[B, d]``, from features as the backbone gives them."""
        bottleneck = torch.relu(self.up(torch.relu(self.down(inputs))))
        return nn.functional.normalize(RATIO * bottleneck + (1 - RATIO) * inputs, dim=-1)

    @staticmethod
    def head(graph: HeadGraph, features: str, width: int) -> str:
        """Add the bottleneck to a graph; see :meth:`Adapter.head <fedclip_plugin.methods.base.Adapter.head>`."""
        down = graph.op("Gemm", features, graph.parameter("down.weight", _inner(width), width), transB=1)
        up = graph.op("Gemm", graph.op("Relu", down), graph.parameter("up.weight", width, _inner(width)), transB=1)
        bottleneck = graph.op("Mul", graph.op("Relu", up), graph.floats([RATIO], ()))
        return graph.op("Add", bottleneck, graph.op("Mul", features, graph.floats([1 - RATIO], ())))


def _inner(width: int) -> int:
    return max(1, width // CLIP_ADAPTER_REDUCTION)
