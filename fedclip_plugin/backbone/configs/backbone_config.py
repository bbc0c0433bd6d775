"""What a configuration says of any dual encoder: two towers and what a pass takes, every weight's shape; no torch."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from fedclip_plugin.errors import BackboneError

LFS = "version https://git-lfs"
"""How the text file begins that git-lfs leaves in place of a large file."""

Shape = tuple[int, ...]

FLOAT = 4
"""Bytes of a float32."""

_KEPT = 23
"""Floats that a layer keeps for the backward pass, per token and unit of width (measured: 20.7 to 22.1 in float32)."""

_PASSING = 14
"""Floats that a layer holds at once in a forward pass without a backward one."""

_WIDEST, _DEEPEST = 1_000_000, 1000
"""More than any CLIP has: a number beyond is a mistake, and would fill the memory."""


@dataclass(frozen=True)
class Tower:
    """One of the two transformers."""

    width: int  # of its layers
    inner: int  # inside of their MLPs
    layers: int
    heads: int  # of attention, which share the width
    tokens: int  # of one image, or in an estimate of one prompt at most

    @property
    def kept_bytes(self) -> int:
        """Bytes that training keeps of one image or prompt between forward and backward pass, in float32."""
        return FLOAT * _KEPT * self.layers * self.tokens * self.width

    @property
    def passing_bytes(self) -> int:
        """Bytes that one image or prompt takes in a forward pass alone, in float32."""
        return FLOAT * _PASSING * self.tokens * self.width


@dataclass(frozen=True)
class BackboneConfig(ABC):
    """The numbers of a dual encoder that this project needs to know before transformers is imported.

    Attributes
    ----------
    family
        Which kind of dual encoder it is.
    title
        What its kind is called in messages.
    transformers
        What the transformers classes of its kind begin with; empty where transformers has none.
    """

    family: ClassVar[str]
    title: ClassVar[str]
    transformers: ClassVar[str] = ""

    vision: Tower
    text: Tower
    side: int  # of the image that the vision tower takes in, in pixels
    patch: int  # side of a patch, in pixels
    channels: int  # of colour
    vocabulary: int  # tokens that the text tower knows
    positions: int  # tokens that a prompt has at most
    end: int | None  # token from which the text tower takes a prompt's feature; None takes it from the last place
    dim: int  # width d of the joint space

    @classmethod
    @abstractmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        """Return what a ``config.json`` says; a ValueError or TypeError names what is wrong."""

    @abstractmethod
    def weights(self) -> dict[str, Shape]:
        """Return the shape of every weight, by its name in transformers' model."""

    @property
    def parameters(self) -> int:
        """Number of all weights; 151,277,313 for CLIP's ViT-B/32."""
        return sum(math.prod(shape) for shape in self.weights().values())


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object of a backbone folder; refuse a file that holds anything else."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BackboneError(f"{path} cannot be read: {error.strerror}; look at its permissions") from error
    if text.startswith(LFS.encode()):
        raise BackboneError(f"{path} is a placeholder of git-lfs, not the file; run 'git lfs pull' there")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{path} is not JSON: {error}; fetch the backbone again") from error
    if not isinstance(content, dict):
        raise BackboneError(f"{path} is not a JSON object; fetch the backbone again")
    return content


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a tower's part; as in transformers, the ``text_config_dict`` of some early CLIPs takes its place whole."""
    early = config.get(f"{name}_dict")
    part = config.get(name) if early is None else early
    if part is not None and not isinstance(part, Mapping):
        raise TypeError(f"{name} is not an object")
    return part or {}


def tower(part: Mapping[str, Any], width: int, inner: int, heads: int, tokens: int) -> Tower:
    """Return a tower by the numbers of its part; those that it leaves out are given."""
    found = Tower(
        width=number(part, "hidden_size", width),
        inner=number(part, "intermediate_size", inner),
        layers=number(part, "num_hidden_layers", 12, most=_DEEPEST),
        heads=number(part, "num_attention_heads", heads),
        tokens=tokens,
    )
    if found.width % found.heads:
        raise ValueError(f"hidden_size {found.width} is no multiple of num_attention_heads {found.heads}")
    return found


def number(part: Mapping[str, Any], key: str, default: int, least: int = 1, most: int = _WIDEST) -> int:
    """Return a whole number of a part; a ValueError when it is none, or out of bounds."""
    value = part.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{key} must be a whole number from {least} to {most:,}, and is {str(value)[:40]}")
    return value


def image_sizes(vision: Mapping[str, Any], patch: int) -> tuple[int, int, int]:
    """Return side, side of a patch, and channels of a vision part; ``patch`` is the second where it leaves it out."""
    side, patch = number(vision, "image_size", 224), number(vision, "patch_size", patch)
    channels = number(vision, "num_channels", 3)
    if channels != 3:
        raise ValueError(f"num_channels is {channels}; images have 3")
    if patch > side:
        raise ValueError(f"patch_size {patch} is more than image_size {side}")
    return side, patch, channels


def norm_shapes(widths: Mapping[str, int]) -> dict[str, Shape]:
    """Return the weights of normalisations, by their names and widths."""
    return {f"{name}.{part}": (width,) for name, width in widths.items() for part in ("weight", "bias")}


def layers(tower: str, shape: Tower) -> dict[str, Shape]:
    """Return the weights of a tower's layers."""
    square, norm = (shape.width, shape.width), (shape.width,)
    one: dict[str, Shape] = {}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        one |= {f"self_attn.{name}.weight": square, f"self_attn.{name}.bias": norm}
    for name in ("layer_norm1", "layer_norm2"):
        one |= {f"{name}.weight": norm, f"{name}.bias": norm}
    one |= {"mlp.fc1.weight": (shape.inner, shape.width), "mlp.fc1.bias": (shape.inner,)}
    one |= {"mlp.fc2.weight": (shape.width, shape.inner), "mlp.fc2.bias": norm}
    return {f"{tower}.encoder.layers.{n}.{name}": own for n in range(shape.layers) for name, own in one.items()}
