"""A method of another package: every dimension of an image feature is scaled by a trained factor."""

import torch
from torch import Tensor, nn

from fedclip_plugin.methods import Adapter, Method

METHOD = Method(
    name="toy_scale",
    title="Toy scale",
    source="the tests",
    trains="one factor a dimension, d parameters",
    adapter="toy_method:Scale",
    parameters=lambda size, classes: size.dim,
)


class Scale(Adapter):
    """``f' = s * f``, then unit length; s starts at 1."""

    def __init__(self, frozen, generator=None, dtype=torch.float32) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.ones(frozen.feature_dim, dtype=dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.normalize(self.scales * inputs, dim=-1)

    @staticmethod
    def head(graph, features, width):
        return graph.op("Mul", features, graph.parameter("scales", width))
