"""How a backbone's two towers are run, frozen or in training: one arithmetic for both."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from fedclip_plugin.errors import BackboneError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ImageTower(Protocol):
    """What holds a backbone's image side by the names of transformers' ``CLIPModel``, or a method that trains it."""

    vision_model: Any
    visual_projection: Any


class TextTower(Protocol):
    """What holds a backbone's text side."""

    text_model: Any
    text_projection: Any


def image_features(clip: ImageTower, pixels: Tensor, precision: str) -> Tensor:
    """Return image features, not normalised, ``[B, d]``, in the type of the tower.

    Parameters
    ----------
    clip
        On the device of ``pixels``.
    pixels
        Normalised, ``[B, 3, S, S]``.
    precision
        Of the matrix products: a name of ``DTYPES``.
    """
    dtype = DTYPES[precision]
    lower = torch.autocast(pixels.device.type, dtype=dtype, enabled=dtype is not torch.float32)
    # TF32 in the patch embedding's convolution, cudnn's default, would not be float32.
    with lower, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        features: Tensor = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
    return features.to(next(clip.vision_model.parameters()).dtype)


def text_features(clip: TextTower, ids: Tensor, mask: Tensor) -> Tensor:
    """Return text features of unit length, ``[C, d]``, in the type of the tower; tokens and mask are ``[C, L]``."""
    pooled = clip.text_model(input_ids=ids, attention_mask=mask).pooler_output
    return torch.nn.functional.normalize(clip.text_projection(pooled), dim=-1)


def finite(features: Tensor, encoder: str) -> Tensor:
    """Return ``features`` as they are; refuse NaN and infinity, of which nothing good can come, naming the encoder."""
    if not bool(features.isfinite().all()):
        raise BackboneError(
            f"{encoder} gives features that are not finite (NaN or infinite); take another precision "
            "(fedclip_args.precision: fp32), or fetch the backbone again"
        )
    return features
