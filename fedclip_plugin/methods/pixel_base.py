"""What methods that train the image tower share: from uint8 images to features of unit length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedclip_plugin.backbone.towers import image_features
from fedclip_plugin.features import TextFeatures
from fedclip_plugin.methods.base import Adapter, AdapterInputs
from fedclip_plugin.methods.parameters import load_parameters, to_tensors
from fedclip_plugin.runs import SavedAdapter

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip


class PixelAdapter(Adapter):
    """A method whose inputs are uint8 images ``[B, 3, S, S]``; it holds an image tower of its own.

    The tower's matrix products run in the precision that the backbone encodes in, so that round 0 is zero-shot CLIP;
    the parameters are float32. Where that precision is ``fp16``, float32 takes its place: gradients would vanish
    without loss scaling.

    Shapes as for :class:`~fedclip_plugin.methods.base.Adapter`.
    """

    vision_model: Any
    visual_projection: Any

    def __init__(self, clip: FrozenClip) -> None:
        super().__init__()
        self.normalization = clip.preprocessing.normalization().to(clip.device)
        self.precision = "fp32" if clip.precision == "fp16" else clip.precision

    @classmethod
    def restore(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter, whose shapes are those of the backbone's own weights."""
        adapter = cls.create(frozen, torch.Generator(), torch.float32)
        load_parameters(adapter, to_tensors(saved.tensors))
        return adapter

    def forward(self, inputs: Tensor) -> Tensor:
        """Return image features of unit length, ``[B, d]``, of uint8 images ``[B, 3, S, S]`` on any device."""
        return normalize(image_features(self, self.normalization(inputs), self.precision), dim=-1)

    def frozen_class_features(self, text: TextFeatures) -> Tensor:
        """Return those of the frozen CLIP, ``[C, d]``, where the adapter is, wherever the images are."""
        weight = next(self.vision_model.parameters())
        return text.features.to(weight.device, weight.dtype)

    def image_weights(self) -> dict[str, Tensor]:
        """Return the image tower and its projection as they are now, by transformers' names in its model."""
        tower = {f"vision_model.{name}": weight for name, weight in self._tower_weights().items()}
        ends = self.visual_projection.named_parameters()
        return tower | {f"visual_projection.{name}": weight.detach() for name, weight in ends}

    def _tower_weights(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.vision_model.named_parameters()}
