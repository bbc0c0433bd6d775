"""CLIP's text tower, frozen, from vectors in place of a prompt's first words to class features."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedclip_plugin.errors import AdapterFileError, RecipeError
from fedclip_plugin.methods.registry import PROMPT_VECTORS

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip
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
    words
        How many words to replace, at most; None replaces all that the prompts begin with.
    free
        Vectors of a context that is not made of words, at most; 0 leaves such prompts as they are.

    Attributes
    ----------
    encoder
        The tower's layers.
    first
        What the context starts as, ``[M, w]``: the embeddings of the replaced words, or random vectors.
    """

    _start: Tensor
    _words: Tensor
    _places: Tensor
    _ends: Tensor

    def __init__(
        self,
        clip: FrozenClip,
        prompts: Sequence[str],
        generator: torch.Generator | None = None,
        words: int | None = None,
        free: int = PROMPT_VECTORS,
    ) -> None:
        super().__init__()
        text = clip.model.text_model
        embedding, places = text.embeddings.token_embedding.weight, text.embeddings.position_embedding.weight
        ids, mask = clip.tokenize(prompts)
        shared, room = _shared(ids, mask), len(places) - ids.shape[1]
        shared = shared if words is None else min(shared, words)
        if free and not shared and room < 1:
            raise RecipeError(
                f"prompts of {ids.shape[1]} tokens fill the backbone's text tower and begin differently, which leaves "
                "method prompt nothing to learn: shorten fedclip_args.prompt_template, or put words before its {}"
            )
        own = embedding[ids[0, 1 : 1 + shared]]
        drawn = torch.empty(min(free, max(room, 0)), embedding.shape[1])
        self.first = own if shared else nn.init.normal_(drawn, std=FREE_DEVIATION, generator=generator).to(own)
        added = len(self.first) - shared
        self.register_buffer("_start", embedding[ids[:, :1]])
        self.register_buffer("_words", embedding[ids[:, 1 + shared :]])
        self.register_buffer("_places", places[: ids.shape[1] + added].clone())
        self.register_buffer("_ends", mask.sum(-1) - 1 + added)
        self.encoder = copy.deepcopy(text.encoder)
        self._norm = copy.deepcopy(text.final_layer_norm)
        self._projection = copy.deepcopy(clip.model.text_projection)
        self.requires_grad_(False).eval()

    def forward(self, context: Tensor) -> Tensor:
        """Return class features ``[C, d]`` of unit length, in the type and on the device of the context ``[M, w]``."""
        if self._places.device != context.device or self._places.dtype != context.dtype:
            self.to(context)
        hidden = torch.cat([self._start, context.expand(len(self._start), -1, -1), self._words], dim=1) + self._places
        ahead = torch.full((len(self._places),) * 2, -torch.inf, dtype=context.dtype, device=context.device).triu(1)
        hidden = self.encoder(inputs_embeds=hidden, attention_mask=ahead[None, None]).last_hidden_state
        pooled = self._norm(hidden[torch.arange(len(hidden), device=hidden.device), self._ends])
        return nn.functional.normalize(self._projection(pooled), dim=-1)


def _shared(ids: Tensor, mask: Tensor) -> int:
    """Return how many tokens behind the start marker are the same in all prompts; end markers are not counted."""
    same = (ids == ids[0]).all(0) & (mask.cumsum(-1) < mask.sum(-1, keepdim=True)).all(0)
    return int(same[1:].long().cumprod(0).sum())


def saved_classes(saved: SavedAdapter) -> Tensor:
    """Return the class features of a saved adapter, ``[C, d]``, by which it answers where there is no text tower."""
    if saved.class_features is None:
        raise AdapterFileError(
            f"adapter of method {saved.method!r} without class features: take another round of its run"
        )
    return torch.tensor(saved.class_features)
