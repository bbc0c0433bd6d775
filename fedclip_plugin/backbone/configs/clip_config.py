"""What the configuration in a backbone folder says; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from fedclip_plugin.backbone.configs.backbone_config import (
    FLOAT,
    BackboneConfig,
    Shape,
    image_sizes,
    layers,
    norm_shapes,
    number,
    read_json,
    section,
    tower,
)
from fedclip_plugin.backbone.configs.open_clip_config import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, OpenClipConfig
from fedclip_plugin.backbone.configs.siglip_config import SiglipConfig
from fedclip_plugin.errors import BackboneError

_PROMPT_TOKENS = 16
"""Tokens that a prompt has at most, in an estimate; one of CLIP's own has about eight."""


@dataclass(frozen=True)
class ClipConfig(BackboneConfig):
    """The numbers of a CLIP, as transformers has it."""

    family: ClassVar[str] = "clip"
    title: ClassVar[str] = "CLIP"
    transformers: ClassVar[str] = "CLIP"

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        """Return what a ``config.json`` says; a ValueError or TypeError names what is wrong."""
        vision, text = section(config, "vision_config"), section(config, "text_config")
        side, patch, channels = image_sizes(vision, patch=32)
        positions = number(text, "max_position_embeddings", 77)
        return cls(
            vision=tower(vision, 768, 3072, 12, tokens=(side // patch) ** 2 + 1),
            text=tower(text, 512, 2048, 8, tokens=min(_PROMPT_TOKENS, positions)),
            side=side,
            patch=patch,
            channels=channels,
            vocabulary=number(text, "vocab_size", 49408),
            positions=positions,
            end=number(text, "eos_token_id", 49407, least=0),
            dim=number(config, "projection_dim", 512),
        )

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
        return shapes | norm_shapes(norms) | layers("text_model", self.text) | layers("vision_model", self.vision)


_KINDS: dict[Any, type[BackboneConfig]] = {"clip": ClipConfig, "siglip": SiglipConfig}
"""By ``model_type``."""


def read_clip_config(folder: Path) -> BackboneConfig:
    """Return what the configuration of a backbone folder says; keys that it leaves out are as in ViT-B/32.

    Where transformers and open_clip could both read a folder, transformers does.

    Raises
    ------
    BackboneError
        When it is not JSON, or not that of a CLIP, a SigLIP or an OpenCLIP model.
    """
    file = folder / "config.json"
    has_open_clip = (folder / OPEN_CLIP_CONFIG).is_file()
    if not file.exists() and not has_open_clip:
        raise BackboneError(
            f"backbone {folder} cannot be loaded as a CLIP: it has no config.json and no {OPEN_CLIP_CONFIG}"
        )
    config = {} if has_open_clip and not file.exists() else read_json(file)
    kind = _KINDS.get(config.get("model_type"))
    if kind is None and has_open_clip:
        file, kind = folder / OPEN_CLIP_CONFIG, OpenClipConfig
        config = read_json(file) | {"floats": _floats(folder)}
    if kind is None:
        raise BackboneError(
            f"backbone {folder} is of model_type {config.get('model_type')!r}; FedCLIP needs a CLIP (model_type "
            "'clip'), such as openai/clip-vit-base-patch32, or a SigLIP or SigLIP 2 of fixed resolution (model_type "
            f"'siglip'), such as google/siglip2-base-patch16-224, or an OpenCLIP folder ({OPEN_CLIP_CONFIG})"
        )
    try:
        return kind.read(config)
    except (ValueError, TypeError) as error:
        writer = f"{kind.transformers}Model.save_pretrained" if kind.transformers else "open_clip"
        raise BackboneError(
            f"backbone {folder}: {file.name} does not describe a {kind.title} ({error}); give the "
            f"folder of a {kind.title} as {writer} writes it"
        ) from error


def _floats(folder: Path) -> int:
    """Return how many numbers of 4 bytes the weights of an OpenCLIP folder take."""
    sizes = (file.stat().st_size for file in (folder / name for name in OPEN_CLIP_WEIGHTS) if file.is_file())
    return next(sizes, 0) // FLOAT
