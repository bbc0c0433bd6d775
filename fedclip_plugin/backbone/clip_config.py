"""What ``config.json`` says of a CLIP: its two towers and what a pass takes, the shape of every weight; no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedclip_plugin.errors import BackboneError

LFS = "version https://git-lfs"
"""How the text file begins that git-lfs leaves in place of a large file."""

Shape = tuple[int, ...]

FLOAT = 4
"""Bytes of a float32."""

_PROMPT_TOKENS = 16
"""Tokens that a prompt has at most, in an estimate; one of CLIP's own has about eight."""

_KEPT = 23
"""Floats that a layer keeps for the backward pass, per token and unit of width (measured: 20.7 to 22.1 in float32)."""

_PASSING = 14
"""Floats that a layer holds at once in a forward pass without a backward one."""

_WIDEST, _DEEPEST = 1_000_000, 1000
"""More than any CLIP has: a number beyond is a mistake, and would fill the memory."""


@dataclass(frozen=True)
class Tower:
    """One of CLIP's two transformers."""

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
class ClipConfig:
    """The numbers of a CLIP that this project needs to know before transformers is imported."""

    vision: Tower
    text: Tower
    side: int  # of the image that the vision tower takes in, in pixels
    patch: int  # side of a patch, in pixels
    channels: int  # of colour
    vocabulary: int  # tokens that the text tower knows
    positions: int  # tokens that a prompt has at most
    end: int  # token that ends a prompt, where the text tower takes the prompt's feature from
    dim: int  # width d of the joint space

    @property
    def parameters(self) -> int:
        """Number of all weights; 151,277,313 for ViT-B/32."""
        return sum(math.prod(shape) for shape in self.weights().values())

    def weights(self) -> dict[str, Shape]:
        """Return the shape of every weight, by its name in transformers' ``CLIPModel``."""
        image, text = self.vision.width, self.text.width
        shapes: dict[str, Shape] = {
            "logit_scale": (),
            "text_model.embeddings.token_embedding.weight": (self.vocabulary, text),
            "text_model.embeddings.position_embedding.weight": (self.positions, text),
            "text_projection.weight": (self.dim, text),
            "vision_model.embeddings.class_embedding": (image,),
            "vision_model.embeddings.patch_embedding.weight": (image, self.channels, self.patch, self.patch),
            "vision_model.embeddings.position_embedding.weight": (self.vision.tokens, image),
            "visual_projection.weight": (self.dim, image),
        }
        norms = {"text_model.final_layer_norm": text}
        norms |= dict.fromkeys(("vision_model.pre_layrnorm", "vision_model.post_layernorm"), image)
        for name, width in norms.items():
            shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        return shapes | _layers("text_model", self.text) | _layers("vision_model", self.vision)


def read_clip_config(folder: Path) -> ClipConfig:
    """Return what the ``config.json`` of a backbone folder says; keys that it leaves out are as in ViT-B/32.

    Raises
    ------
    BackboneError
        When it is not JSON or not that of a CLIP.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") != "clip":
        raise BackboneError(
            f"backbone {folder} is of model_type {config.get('model_type')!r}; FedCLIP needs a CLIP (model_type "
            "'clip'), such as openai/clip-vit-base-patch32"
        )
    try:
        return _read(config)
    except (ValueError, TypeError) as error:
        raise BackboneError(
            f"backbone {folder}: config.json does not describe a CLIP ({error}); give the folder of a CLIP as "
            "CLIPModel.save_pretrained writes it"
        ) from error


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


def _read(config: Mapping[str, Any]) -> ClipConfig:
    vision, text = _section(config, "vision_config"), _section(config, "text_config")
    side, patch = _number(vision, "image_size", 224), _number(vision, "patch_size", 32)
    positions, channels = _number(text, "max_position_embeddings", 77), _number(vision, "num_channels", 3)
    if channels != 3:
        raise ValueError(f"num_channels is {channels}; images have 3")
    if patch > side:
        raise ValueError(f"patch_size {patch} is more than image_size {side}")
    return ClipConfig(
        vision=_tower(vision, 768, 3072, 12, tokens=(side // patch) ** 2 + 1),
        text=_tower(text, 512, 2048, 8, tokens=min(_PROMPT_TOKENS, positions)),
        side=side,
        patch=patch,
        channels=channels,
        vocabulary=_number(text, "vocab_size", 49408),
        positions=positions,
        end=_number(text, "eos_token_id", 49407, least=0),
        dim=_number(config, "projection_dim", 512),
    )


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a tower's part; as in transformers, the ``text_config_dict`` of some early CLIPs takes its place whole."""
    early = config.get(f"{name}_dict")
    part = config.get(name) if early is None else early
    if part is not None and not isinstance(part, Mapping):
        raise TypeError(f"{name} is not an object")
    return part or {}


def _tower(part: Mapping[str, Any], width: int, inner: int, heads: int, tokens: int) -> Tower:
    tower = Tower(
        width=_number(part, "hidden_size", width),
        inner=_number(part, "intermediate_size", inner),
        layers=_number(part, "num_hidden_layers", 12, most=_DEEPEST),
        heads=_number(part, "num_attention_heads", heads),
        tokens=tokens,
    )
    if tower.width % tower.heads:
        raise ValueError(f"hidden_size {tower.width} is no multiple of num_attention_heads {tower.heads}")
    return tower


def _number(part: Mapping[str, Any], key: str, default: int, least: int = 1, most: int = _WIDEST) -> int:
    value = part.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{key} must be a whole number from {least} to {most:,}, and is {str(value)[:40]}")
    return value


def _layers(tower: str, shape: Tower) -> dict[str, Shape]:
    square, norm = (shape.width, shape.width), (shape.width,)
    one: dict[str, Shape] = {}
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        one |= {f"self_attn.{name}.weight": square, f"self_attn.{name}.bias": norm}
    for name in ("layer_norm1", "layer_norm2"):
        one |= {f"{name}.weight": norm, f"{name}.bias": norm}
    one |= {"mlp.fc1.weight": (shape.inner, shape.width), "mlp.fc1.bias": (shape.inner,)}
    one |= {"mlp.fc2.weight": (shape.width, shape.inner), "mlp.fc2.bias": norm}
    return {f"{tower}.encoder.layers.{n}.{name}": own for n in range(shape.layers) for name, own in one.items()}
