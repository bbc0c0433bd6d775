"""toy_method.py: every dimension of an image feature is scaled by a trained factor."""

import torch
from torch import nn

from fedclip_plugin.methods import Adapter, Method

METHOD = Method(
    name="toy_scale",  # the value of fedclip_args.method
    title="Toy scale",  # in tables and plots
    source="the paper, or the code that it follows",
    trains="one factor a dimension, d parameters",  # what moves between silos and server
    adapter="toy_method:Scale",  # where the class is
    parameters=lambda size, classes: size.dim,  # how many parameters are trained and sent
)


class Scale(Adapter):
    """``f' = s * f``, then unit length; s starts at 1."""

    def __init__(self, frozen, generator=None, dtype=torch.float32):
        super().__init__()
        self.scales = nn.Parameter(torch.ones(frozen.feature_dim, dtype=dtype))

    def forward(self, inputs):
        """Return unit-length features."""
        return nn.functional.normalize(self.scales * inputs, dim=-1)

    @staticmethod
    def head(graph, features, width):
        """Return what ``forward`` does before the normalisation, as ONNX nodes."""
        return graph.op("Mul", features, graph.parameter("scales", width))
