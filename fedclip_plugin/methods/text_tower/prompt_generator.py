"""Prompts made from class names by a small network (FedTPG: Qiu et al., ICLR 2024, arXiv 2310.06123)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.methods.parameters import load_parameters, to_tensors
from fedclip_plugin.methods.text_tower.context_tower import ContextTower, saved_classes
from fedclip_plugin.methods.zero_shot import ZeroShot

if TYPE_CHECKING:
    from fedclip_plugin.features import TextFeatures
    from fedclip_plugin.methods.base import AdapterInputs
    from fedclip_plugin.runs import SavedAdapter

HEADS = 4
"""Heads of attention, as in the paper's code."""

DEVIATION = 0.02
"""Standard deviation of the query vectors at first."""


class PromptGenerator(ZeroShot):
    """Train a network that makes the words before the class names from what CLIP knows of the classes.

    Learned queries attend to the text features of the classes, and a gated feed-forward layer follows:
    ``h = attention(LN(Q), LN(E), LN(E))``, ``h + FF(h)`` with ``FF = W2 (x * gelu(g))``, ``[x, g] = W1 LN(h)``. What
    comes out stands in front of every class name, in the frozen text tower. Other classes get words of their own.

    Three things are not as in the paper. The output, times a gain that is 0 at first, is added to the embeddings of the
    template's own words, so that round 0 is zero-shot CLIP. E are the text features of the recipe's prompts, not of
    bare names. The loss is the cross entropy over all classes, not over a silo's own.

    Shapes: C classes, M words of the template, w width of the text tower, d feature width. Parameters:
    ``14 w^2 + 2 d w + (M + 18) w + 2 d``; 4,206,592 for 4 words and w = d = 512.

    Parameters
    ----------
    vectors, width, feature_dim
        M, w and d.
    encode
        From what is added to the template's words, ``[M, w]``, to class features, ``[C, d]``; no part of what is
        trained, saved or sent.
    generator
        Source of the initial weights, on the CPU.
    """

    trains_classes = True

    def __init__(
        self,
        vectors: int,
        width: int,
        feature_dim: int,
        encode: Callable[[Tensor], Tensor],
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self._encode = encode
        self.queries = nn.Parameter(torch.empty(vectors, width, dtype=dtype))
        self.query_norm = nn.LayerNorm(width, dtype=dtype)
        self.class_norm = nn.LayerNorm(feature_dim, dtype=dtype)
        self.query = nn.Linear(width, width, dtype=dtype)
        self.key = nn.Linear(feature_dim, width, dtype=dtype)
        self.value = nn.Linear(feature_dim, width, dtype=dtype)
        self.out = nn.Linear(width, width, dtype=dtype)
        self.norm = nn.LayerNorm(width, dtype=dtype)
        self.wide = nn.Linear(width, 8 * width, dtype=dtype)
        self.narrow = nn.Linear(4 * width, width, dtype=dtype)
        self.gain = nn.Parameter(torch.zeros(width, dtype=dtype))
        nn.init.normal_(self.queries, std=DEVIATION, generator=generator)
        for layer in (self.query, self.key, self.value, self.out, self.wide, self.narrow):
            bound = 1 / math.sqrt(layer.in_features)
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    @classmethod
    def create(cls, frozen: AdapterInputs, generator: torch.Generator | None, dtype: torch.dtype) -> Self:
        """Build it on a text tower, which is loaded; a RecipeError when the prompts begin differently."""
        return cls._on(ContextTower(frozen.clip(), frozen.prompts, free=0), frozen, generator, dtype)

    @classmethod
    def on_classes(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter for other classes, with as many words as it was trained with."""
        words = len(saved.tensors["queries"])
        adapter = cls._on(ContextTower(frozen.clip(), frozen.prompts, words=words, free=0), frozen, torch.Generator())
        load_parameters(adapter, to_tensors(saved.tensors))
        return adapter

    @classmethod
    def _on(
        cls,
        tower: ContextTower,
        frozen: AdapterInputs,
        generator: torch.Generator | None,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        vectors, width = tower.first.shape
        if not vectors:
            raise RecipeError(
                "method prompt_generator changes the words before the class name, and the prompts begin differently: "
                "put words and a space before the {} of fedclip_args.prompt_template"
            )
        encode = lambda added: tower(tower.first.to(added) + added)  # noqa: E731  a tower is no part of the adapter
        return cls(vectors, width, frozen.feature_dim, encode, generator, dtype)

    @classmethod
    def restore(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved adapter, which answers by the class features that were saved and cannot be trained on."""
        classes, tensors = saved_classes(saved), to_tensors(saved.tensors)
        vectors, width = tensors.get("queries", torch.empty(1, HEADS)).shape
        adapter = cls(vectors, width, classes.shape[1], lambda added: classes.to(added))
        load_parameters(adapter, tensors)
        return adapter

    def words(self, classes: Tensor) -> Tensor:
        """Return what is added to the template's words, ``[M, w]``, for classes of these text features, ``[C, d]``."""
        known, (vectors, width) = self.class_norm(classes.to(self.queries)), self.queries.shape
        heads = math.gcd(HEADS, width)
        parts = (self.query(self.query_norm(self.queries)), self.key(known), self.value(known))
        query, key, value = (part.view(len(part), heads, -1).transpose(0, 1) for part in parts)
        seen = scaled_dot_product_attention(query, key, value).transpose(0, 1).reshape(vectors, width)
        hidden = self.out(seen)
        values, gates = self.wide(self.norm(hidden)).chunk(2, dim=-1)
        made: Tensor = self.gain * (hidden + self.narrow(values * gelu(gates)))
        return made

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return the features of the class names behind the words made for them, ``[C, d]``."""
        return self._encode(self.words(text.features))
