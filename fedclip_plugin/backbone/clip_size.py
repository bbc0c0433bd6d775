"""How large a CLIP is and what a pass through it takes, from its configuration alone; no torch, no weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fedclip_plugin.backbone.clip_config import TowerShape, read_clip_config

FLOAT = 4
"""Bytes of a float32."""

PROMPT_TOKENS = 16
"""Tokens that a prompt has at most, in an estimate; one of CLIP's own has about eight."""

_KEPT = 23
"""Floats that a layer keeps for the backward pass, per token and unit of width (measured: 20.7 to 22.1 in float32)."""

_PASSING = 14
"""Floats that a layer holds at once in a forward pass without a backward one."""


@dataclass(frozen=True)
class Tower:
    """One of CLIP's two transformers.

    Attributes
    ----------
    layers, width
        Number of layers, and their width.
    tokens
        Of one image, or of one prompt at most.
    """

    layers: int
    width: int
    tokens: int

    @property
    def kept_bytes(self) -> int:
        """Bytes that training keeps of one image or prompt between forward and backward pass, in float32."""
        return FLOAT * _KEPT * self.layers * self.tokens * self.width

    @property
    def passing_bytes(self) -> int:
        """Bytes that one image or prompt takes in a forward pass alone, in float32."""
        return FLOAT * _PASSING * self.tokens * self.width


@dataclass(frozen=True)
class ClipSize:
    """The shape of a CLIP.

    Attributes
    ----------
    vision, text
        Its towers.
    dim
        Width d of the joint space.
    parameters
        Of everything; 151,277,313 for ViT-B/32.
    """

    vision: Tower
    text: Tower
    dim: int
    parameters: int


def read_clip_size(folder: Path) -> ClipSize:
    """Return the shape of the CLIP in a backbone folder.

    Keys that its ``config.json`` leaves out have transformers' defaults, those of ViT-B/32.

    Raises
    ------
    BackboneError
        When ``config.json`` is not that of a CLIP.
    """
    config = read_clip_config(folder)
    patches = (config.side // config.patch) ** 2
    return ClipSize(
        vision=_tower(config.vision, patches + 1),
        text=_tower(config.text, min(PROMPT_TOKENS, config.positions)),
        dim=config.dim,
        parameters=sum(math.prod(shape) for shape in config.weights().values()),
    )


def _tower(shape: TowerShape, tokens: int) -> Tower:
    return Tower(shape.layers, shape.width, tokens)
