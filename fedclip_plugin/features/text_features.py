"""What the classes look like to CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.prompts import same_prompts, same_prompts_rule


@dataclass(frozen=True)
class TextFeatures:
    """What the classes look like to CLIP."""

    features: Tensor  # unit-length rows, ``[C, d]`` float32
    logit_scale: float  # CLIP's factor on cosine similarities

    def to(self, like: Tensor) -> TextFeatures:
        """Return them on the device and in the type of ``like``."""
        return TextFeatures(self.features.to(like), self.logit_scale)


_NEAR = 1e-5
"""Largest distance between features of one prompt that rounding accounts for; those of others are far beyond."""


def require_distinct(text: TextFeatures, classes: Sequence[str], template: str) -> None:
    """Refuse classes that look the same to CLIP, one of which could never be predicted.

    The DataError names them, and says whether names or template are at fault.
    """
    near = torch.cdist(text.features, text.features, compute_mode="donot_use_mm_for_euclid_dist") < _NEAR
    firsts = near.int().argmax(dim=1).tolist()
    alike = [[name for name, own in zip(classes, firsts, strict=True) if own == first] for first in sorted(set(firsts))]
    groups = [group for group in alike if len(group) > 1]
    if not groups:
        return
    if len(alike) == 1 and not same_prompts(classes, template):
        raise DataError(
            f"all {len(classes)} classes look the same to CLIP: its text tower reads only the first tokens of a prompt "
            "(77 in most), and the class name comes later; shorten fedclip_args.prompt_template before its {}"
        )
    raise DataError(same_prompts_rule(groups))
