"""A gate that starts exactly at zero-shot CLIP: FedCLIP's attention with a sigmoid, its last layer at zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedclip_plugin.methods.attention_gate import AttentionGate, layers_graph
from fedclip_plugin.methods.base import AdapterInputs, HeadGraph


class SigmoidGate(AttentionGate):
    """Weigh every dimension of an image feature by a learned gate between 0 and 2.

    ``f' = 2 sigmoid(W2 tanh(W1 f + b1) + b2) * f``, then unit length. W2 and b2 are zero at first, so that every gate
    is 1 and round 0 is zero-shot CLIP; dimensions do not compete for a sum of 1 as under FedCLIP's softmax.

    Shapes: B images in a batch, d feature width. Parameters: ``2 (d^2 + d)``; 525,312 for d = 512.
    """

    def __init__(
        self, frozen: AdapterInputs, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(frozen, generator, dtype)
        for parameter in self.gate.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return adapted features of unit length, ``[B, d]``, from features as the backbone gives them."""
        return nn.functional.normalize(2 * torch.sigmoid(self.layers(inputs)) * inputs, dim=-1)

    @staticmethod
    def head(graph: HeadGraph, features: str, width: int) -> str:
        """Add the gate to a graph; see :meth:`Adapter.head <fedclip_plugin.methods.base.Adapter.head>`."""
        gates = graph.op("Sigmoid", layers_graph(graph, features, width))
        return graph.op("Mul", graph.op("Mul", gates, graph.floats([2.0], ())), features)
