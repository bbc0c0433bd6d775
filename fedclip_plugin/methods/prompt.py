"""Prompt learning: CoOp (Zhou et al. 2022, arXiv 2109.01134), federated as PromptFL (Guo et al., arXiv 2208.11625)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from fedclip_plugin.errors import AdapterFileError, RecipeError
from fedclip_plugin.methods.parameters import load_parameters, to_tensors
from fedclip_plugin.methods.registry import PROMPT_VECTORS
from fedclip_plugin.methods.zero_shot import ZeroShot

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip
    from fedclip_plugin.features import TextFeatures
    from fedclip_plugin.methods.base import AdapterInputs
    from fedclip_plugin.runs import SavedAdapter


FREE_DEVIATION = 0.02
"""Their standard deviation at first, as in CoOp."""


class ContextTower(nn.Module):
    """From context vectors to class features.

    The words that all prompts begin with are replaced by the context; the words' own embeddings for a context give the
    class features of the prompts themselves. Prompts that begin differently keep all their words, and the context goes
    before them. The tower is causal, so that nothing behind a prompt's end marker matters: it runs over as many tokens
    as the longest prompt has, not over as many as it could take.

    Shapes: C prompts, M context vectors, w width of the tower, d feature width.

    Parameters
    ----------
    generator
        Source of a context that is not made of words.

    Attributes
    ----------
    first
        What the context starts as, ``[M, w]``: the embeddings of the replaced words, or random vectors.
    """

    _start: Tensor
    _words: Tensor
    _places: Tensor
    _ends: Tensor

    def __init__(self, clip: FrozenClip, prompts: Sequence[str], generator: torch.Generator | None = None) -> None:
        super().__init__()
        text = clip.model.text_model
        embedding, places = text.embeddings.token_embedding.weight, text.embeddings.position_embedding.weight
        ids, mask = clip.tokenize(prompts)
        shared, room = _shared(ids, mask), len(places) - ids.shape[1]
        if not shared and room < 1:
            raise RecipeError(
                f"prompts of {ids.shape[1]} tokens fill the backbone's text tower and begin differently, which leaves "
                "method prompt nothing to learn: shorten fedclip_args.prompt_template, or put words before its {}"
            )
        words = embedding[ids[0, 1 : 1 + shared]]
        free = torch.empty(min(PROMPT_VECTORS, max(room, 0)), embedding.shape[1])
        self.first = words if shared else nn.init.normal_(free, std=FREE_DEVIATION, generator=generator).to(words)
        added = len(self.first) - shared
        self.register_buffer("_start", embedding[ids[:, :1]])
        self.register_buffer("_words", embedding[ids[:, 1 + shared :]])
        self.register_buffer("_places", places[: ids.shape[1] + added].clone())
        self.register_buffer("_ends", mask.sum(-1) - 1 + added)
        self._encoder = copy.deepcopy(text.encoder)
        self._norm = copy.deepcopy(text.final_layer_norm)
        self._projection = copy.deepcopy(clip.model.text_projection)
        self.requires_grad_(False).eval()

    def forward(self, context: Tensor) -> Tensor:
        """Return class features ``[C, d]`` of unit length, in the type and on the device of the context ``[M, w]``."""
        if self._places.device != context.device or self._places.dtype != context.dtype:
            self.to(context)
        hidden = torch.cat([self._start, context.expand(len(self._start), -1, -1), self._words], dim=1) + self._places
        ahead = torch.full((len(self._places),) * 2, -torch.inf, dtype=context.dtype, device=context.device).triu(1)
        hidden = self._encoder(inputs_embeds=hidden, attention_mask=ahead[None, None]).last_hidden_state
        pooled = self._norm(hidden[torch.arange(len(hidden), device=hidden.device), self._ends])
        return nn.functional.normalize(self._projection(pooled), dim=-1)


def _shared(ids: Tensor, mask: Tensor) -> int:
    """Return how many tokens behind the start marker are the same in all prompts; end markers are not counted."""
    same = (ids == ids[0]).all(0) & (mask.cumsum(-1) < mask.sum(-1, keepdim=True)).all(0)
    return int(same[1:].long().cumprod(0).sum())


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
    def restore(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter, which answers by the class features that were saved and cannot be trained on."""
        if saved.class_features is None:
            raise AdapterFileError("adapter of method 'prompt' without class features: take another round of its run")
        classes, tensors = torch.tensor(saved.class_features), to_tensors(saved.tensors)
        adapter = cls(tensors.get("context", torch.empty(0)), lambda context: classes.to(context))
        load_parameters(adapter, tensors)
        return adapter

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return the features of the class names behind the context, ``[C, d]``."""
        return self._encode(self.context)
