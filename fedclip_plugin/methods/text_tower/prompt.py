"""Prompt learning: CoOp (Zhou et al. 2022, arXiv 2109.01134), federated as PromptFL (Guo et al., arXiv 2208.11625)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from fedclip_plugin.methods.parameters import load_parameters, to_tensors
from fedclip_plugin.methods.text_tower.context_tower import ContextTower, saved_classes
from fedclip_plugin.methods.zero_shot import ZeroShot

if TYPE_CHECKING:
    from fedclip_plugin.features import TextFeatures
    from fedclip_plugin.methods.base import AdapterInputs
    from fedclip_plugin.runs import SavedAdapter


class Prompt(ZeroShot):
    """Train the words before the class name as vectors, through the frozen text tower.

    One context for all classes, with the class name behind it (CoOp, section 3.2), trained by cross entropy. It starts
    as the recipe's own words, which CoOp also tries ("a photo of a", 4 vectors): round 0 is zero-shot CLIP. A template
    without words before the class name gets 16 random vectors in front of it, or as many as fit.

    Shapes: C classes, M context vectors, w width of the text tower, d feature width. Parameters: ``M w``; 2,048 for 4
    vectors and w = 512.

    Parameters
    ----------
    context
        What the context starts as, ``[M, w]``; copied.
    encode
        From a context to class features, ``[C, d]``; no part of what is trained, saved or sent.
    """

    trains_classes = True

    def __init__(self, context: Tensor, encode: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.context = nn.Parameter(context.detach().clone())
        self._encode = encode

    @classmethod
    def create(cls, frozen: AdapterInputs, generator: torch.Generator | None, dtype: torch.dtype) -> Self:
        """Build it on a text tower, which is loaded; a RecipeError when the prompts leave no room for a context."""
        tower = ContextTower(frozen.clip(), frozen.prompts, generator)
        return cls(tower.first.to(dtype), tower.forward)

    @classmethod
    def on_classes(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter for other classes; the prompts have to begin with as many words as the context."""
        tensors = to_tensors(saved.tensors)
        context = tensors["context"]
        tower = ContextTower(frozen.clip(), frozen.prompts, words=len(context), free=len(context))
        adapter = cls(tower.first, tower.forward)
        load_parameters(adapter, tensors)
        return adapter

    @classmethod
    def restore(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter, which answers by the class features that were saved and cannot be trained on."""
        classes, tensors = saved_classes(saved), to_tensors(saved.tensors)
        adapter = cls(tensors.get("context", torch.empty(0)), lambda context: classes.to(context))
        load_parameters(adapter, tensors)
        return adapter

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return the features of the class names behind the context, ``[C, d]``."""
        return self._encode(self.context)
