"""CLIP as it is: nothing is trained (Radford et al. 2021, arXiv 2103.00020, section 3.1)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fedclip_plugin.features import TextFeatures
from fedclip_plugin.methods.base import Adapter, HeadGraph
from fedclip_plugin.methods.losses import PADDING


class ZeroShot(Adapter):
    """Compare image features with class features; also the image side of methods that train the class side alone.

    Shapes: B images in a batch, d feature width. Parameters: none.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the features as the backbone gives them, ``[B, d]``, at unit length."""
        return normalize(inputs, dim=-1)

    @staticmethod
    def head(graph: HeadGraph, features: str, width: int) -> str:
        """Add nothing: the class features in the graph are all that a method on top of this one trains."""
        return features

    def loss(self, inputs: Tensor, labels: Tensor, text: TextFeatures, padded: bool = False) -> Tensor:
        """Return the mean cross entropy of a batch over all classes, a scalar."""
        return cross_entropy(self.logits(inputs, text), labels, ignore_index=PADDING)
