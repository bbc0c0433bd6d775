"""LoRA on CLIP's text tower, image features cached (FLoRA: Nguyen et al. 2024, arXiv 2404.15182)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from fedclip_plugin.methods.lora_matrices import add_lora, new_layer, scaled
from fedclip_plugin.methods.parameters import load_parameters, to_tensors
from fedclip_plugin.methods.registry import LORA_TARGETS
from fedclip_plugin.methods.text_tower.context_tower import ContextTower, saved_classes
from fedclip_plugin.methods.zero_shot import ZeroShot

if TYPE_CHECKING:
    from fedclip_plugin.features import TextFeatures
    from fedclip_plugin.methods.base import AdapterInputs
    from fedclip_plugin.runs import SavedAdapter


class TextLora(ZeroShot):
    """Add a trained matrix of low rank to the query and value projections of every layer of the text tower.

    ``W' = W + (alpha / r) B A`` as for :class:`~fedclip_plugin.methods.lora.Lora`; B is 0 at first, so that round 0 is
    zero-shot CLIP. Trained by cross entropy over all classes; A and B are averaged each by itself, which is not the
    average of their products. The prompts of other classes go through the same tower.

    Shapes: C classes, w width of the text tower, d feature width, r rank. Parameters: ``4 r w`` a layer; 98,304 for
    r = 4 and ViT-B/32.

    Parameters
    ----------
    layers
        The trained matrices.
    encode
        From a tensor of the wanted type and device to class features, ``[C, d]``; no part of what is saved or sent.
    """

    trains_classes = True

    def __init__(self, layers: nn.ModuleList, encode: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layers = layers
        self._encode = encode

    @classmethod
    def create(cls, frozen: AdapterInputs, generator: torch.Generator | None, dtype: torch.dtype) -> Self:
        """Build it on a text tower, which is loaded."""
        tower = ContextTower(frozen.clip(), frozen.prompts, free=0).to(dtype)
        layers = add_lora(tower.encoder, generator)
        return cls(layers, lambda like: tower(tower.first.to(like)))

    @classmethod
    def restore(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter, which answers by the class features that were saved and cannot be trained on."""
        classes, tensors = saved_classes(saved), to_tensors(saved.tensors)
        width = next((tensor.shape[-1] for name, tensor in tensors.items() if name.endswith(".a.weight")), 0)
        layers = nn.ModuleList(new_layer(width) for _ in range(len(tensors) // (2 * len(LORA_TARGETS))))
        adapter = cls(layers, lambda like: classes.to(like))
        load_parameters(adapter, tensors)
        return adapter

    @staticmethod
    def interpolate(start: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return the trained matrices with their products scaled by the share."""
        return scaled(trained, share)

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return the features of the prompts by the tuned tower, ``[C, d]``."""
        return self._encode(next(self.parameters()))
