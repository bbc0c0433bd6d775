"""FedCLIP's adapter: an attention gate on the image feature (arXiv 2302.13485, section 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedclip_plugin.methods.base import Adapter, AdapterInputs, HeadGraph


class AttentionGate(Adapter):
    """Weigh every dimension of an image feature by a learned softmax gate.

    ``a(f) = softmax(W2 tanh(W1 f + b1) + b2)``, ``f' = a(f) * f``, then unit length: the reference's
    ``Linear, Tanh, Linear, Softmax`` on the image feature. A gate that is uniform changes nothing, so an untrained
    adapter scores about zero-shot. Initial weights are uniform as ``torch.nn.Linear`` has them.

    Shapes: B images in a batch, d feature width. Parameters: ``2 (d^2 + d)``; 525,312 for d = 512.
    """

    batches_clients = True

    def __init__(
        self, frozen: AdapterInputs, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        width = frozen.feature_dim
        self.hidden = nn.Linear(width, width, dtype=dtype)
        self.gate = nn.Linear(width, width, dtype=dtype)
        bound = 1 / math.sqrt(width)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def layers(self, inputs: Tensor) -> Tensor:
        """Return ``W2 tanh(W1 f + b1) + b2``, ``[B, d]``."""
        result: Tensor = self.gate(torch.tanh(self.hidden(inputs)))
        return result

    def forward(self, inputs: Tensor) -> Tensor:
        """Return adapted features of unit length, ``[B, d]``, from features as the backbone gives them."""
        return nn.functional.normalize(torch.softmax(self.layers(inputs), dim=-1) * inputs, dim=-1)

    @staticmethod
    def head(graph: HeadGraph, features: str, width: int) -> str:
        """Add the gate to a graph; see :meth:`Adapter.head <fedclip_plugin.methods.base.Adapter.head>`."""
        return graph.op("Mul", graph.op("Softmax", layers_graph(graph, features, width), axis=-1), features)


def layers_graph(graph: HeadGraph, features: str, width: int) -> str:
    """Add :meth:`AttentionGate.layers` to a graph and return the name of the result."""
    hidden, gate = (
        (graph.parameter(f"{layer}.weight", width, width), graph.parameter(f"{layer}.bias", width))
        for layer in ("hidden", "gate")
    )
    return graph.op("Gemm", graph.op("Tanh", graph.op("Gemm", features, *hidden, transB=1)), *gate, transB=1)
