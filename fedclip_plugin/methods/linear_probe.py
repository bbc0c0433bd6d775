"""A linear classifier on the image feature that starts as CLIP's own (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fedclip_plugin.features import TextFeatures
from fedclip_plugin.methods.base import AdapterInputs, keep_known_rows
from fedclip_plugin.methods.closed_form.adapters import Ridge
from fedclip_plugin.methods.zero_shot import ZeroShot
from fedclip_plugin.runs import SavedAdapter


class LinearProbe(ZeroShot):
    """Train one row a class; an image's logits are its scaled cosines with the rows.

    The linear probe of CLIP's section 3.2, with rows that start at the text features, as the classifiers of Wortsman
    et al. (2022, arXiv 2109.01903, section 3) do: round 0 is zero-shot CLIP. Rows count at unit length, and there are
    no biases, so that what is trained is a matrix of class features like any other.

    Shapes: B images in a batch, C classes, d feature width. Parameters: ``C d``; 3,584 for 7 classes and d = 512.
    """

    trains_classes = True
    batches_clients = True

    def __init__(
        self, frozen: AdapterInputs, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.rows = nn.Parameter(frozen.text.features.to(dtype, copy=True))

    @classmethod
    def on_classes(cls, saved: SavedAdapter, frozen: AdapterInputs) -> Self:
        """Return a saved probe for other classes: those that it knows keep their row, others get their text feature."""
        probe = cls(frozen)
        keep_known_rows(probe.rows, saved, "rows", frozen)
        return probe

    def class_features(self, text: TextFeatures) -> Tensor:
        """Return the rows at unit length, ``[C, d]``."""
        return normalize(self.rows, dim=-1)


class RidgeProbe(Ridge):
    """The linear probe that starts from :class:`Ridge`: its first round is solved, later ones train what was found.

    Unlike those of :class:`LinearProbe` the rows count with their lengths, and the factor, which carries the
    temperature, is trained too: so the adapter after the first round is that of ``method: ridge``, to the bit.
    Parameters: ``C d + 1``.
    """

    batches_clients = True
