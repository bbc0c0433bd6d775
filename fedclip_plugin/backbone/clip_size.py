"""How large a CLIP is and what a pass through it takes, from its configuration alone; no torch, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedclip_plugin.backbone.locate import read_config
from fedclip_plugin.errors import BackboneError

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
    layers, width, inner
        Number of layers, width, and width inside of their MLPs.
    tokens
        Of one image, or of one prompt at most.
    """

    layers: int
    width: int
    inner: int
    tokens: int

    @property
    def parameters(self) -> int:
        """Number of parameters of the layers."""
        attention, norms = 4 * self.width * (self.width + 1), 4 * self.width
        return self.layers * (attention + norms + 2 * self.width * self.inner + self.inner + self.width)

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
    config = read_config(folder)
    try:
        return _size(config.get("vision_config", {}), config.get("text_config", {}), config.get("projection_dim", 512))
    except (TypeError, AttributeError, ArithmeticError) as error:
        raise BackboneError(
            f"backbone {folder}: config.json does not describe a CLIP ({error}); give the folder of a CLIP as "
            "transformers saves it"
        ) from error


def _size(vision: dict[str, Any], text: dict[str, Any], dim: int) -> ClipSize:
    patch, side, vocabulary = vision.get("patch_size", 32), vision.get("image_size", 224), text.get("vocab_size", 49408)
    patches, positions = (side // patch) ** 2, text.get("max_position_embeddings", 77)
    image = _tower(vision, patches + 1, 768, 3072)
    prompt = _tower(text, min(PROMPT_TOKENS, positions), 512, 2048)
    outside_image = 3 * patch**2 + 1 + (patches + 1) + 4 + dim  # patches, class token, positions, two norms, projection
    outside_prompt = vocabulary + positions + 2 + dim
    rest = image.width * outside_image + prompt.width * outside_prompt + 1
    return ClipSize(image, prompt, dim, image.parameters + prompt.parameters + rest)


def _tower(config: dict[str, Any], tokens: int, width: int, inner: int) -> Tower:
    return Tower(
        config.get("num_hidden_layers", 12),
        config.get("hidden_size", width),
        config.get("intermediate_size", inner),
        tokens,
    )
