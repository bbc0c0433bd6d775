"""Prompt learning: CoOp (Zhou et al. 2022, arXiv 2109.01134), federated as PromptFL (Guo et al., arXiv 2208.11625)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedclip_plugin.adapters.context_tower import ContextTower
from fedclip_plugin.adapters.zero_shot import ZeroShot

if TYPE_CHECKING:
    from fedclip_plugin.adapters.adapter import Frozen
    from fedclip_plugin.features import TextFeatures


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

    def __init__(self, context: Tensor, encode: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.context = nn.Parameter(context.detach().clone())
        self._encode = encode

    @classmethod
    def through_tower(cls, frozen: Frozen, generator: torch.Generator | None, dtype: torch.dtype) -> Prompt:
        """Build it on a text tower, which is loaded.

        Parameters
        ----------
        frozen, generator, dtype
            As for :func:`~fedclip_plugin.adapters.registry.create_adapter`.

        Raises
        ------
        RecipeError
            When the prompts leave no room for a context.
        """
        tower = ContextTower(frozen.clip(), frozen.prompts, generator)
        return cls(tower.first.to(dtype), tower.forward)

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return the features of the class names behind the context, ``[C, d]``."""
        return self._encode(self.context)
