"""What ``config.json`` says of a SigLIP, or of a SigLIP 2 of fixed resolution; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from fedclip_plugin.backbone.configs.backbone_config import (
    BackboneConfig,
    Shape,
    image_sizes,
    layers,
    norm_shapes,
    number,
    section,
    tower,
)


@dataclass(frozen=True)
class SiglipConfig(BackboneConfig):
    """The numbers of a SigLIP (Zhai et al. 2023, arXiv 2303.15343), or of a SigLIP 2 (arXiv 2502.14786).

    The image feature is what a head of attention makes of all patches, and there is no projection. The text tower sees
    all of its places, padding included, and takes a prompt's feature from the last one.
    """

    family: ClassVar[str] = "siglip"
    title: ClassVar[str] = "SigLIP"
    transformers: ClassVar[str] = "Siglip"

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        """Return what a ``config.json`` says; a ValueError or TypeError names what is wrong."""
        vision, text = section(config, "vision_config"), section(config, "text_config")
        side, patch, channels = image_sizes(vision, patch=16)
        positions = number(text, "max_position_embeddings", 64)
        image = tower(vision, 768, 3072, 12, tokens=(side // patch) ** 2)
        dim = text.get("projection_size") or number(text, "hidden_size", 768)
        if dim != image.width:
            raise ValueError(f"text features of width {dim} beside image features of width {image.width}")
        if not vision.get("vision_use_head", True):
            raise ValueError("vision_use_head is false, which leaves images without one feature each")
        return cls(
            vision=image,
            text=tower(text, 768, 3072, 12, tokens=positions),
            side=side,
            patch=patch,
            channels=channels,
            vocabulary=number(text, "vocab_size", 32000),
            positions=positions,
            end=None,
            dim=dim,
        )

    def weights(self) -> dict[str, Shape]:
        """Return the shape of every weight, by its name in transformers' ``SiglipModel``."""
        image, text, inner, head = self.vision.width, self.text.width, self.vision.inner, "vision_model.head"
        shapes: dict[str, Shape] = {
            "logit_scale": (1,),
            "logit_bias": (1,),
            "text_model.embeddings.token_embedding.weight": (self.vocabulary, text),
            "text_model.embeddings.position_embedding.weight": (self.positions, text),
            "text_model.head.weight": (self.dim, text),
            "text_model.head.bias": (self.dim,),
            "vision_model.embeddings.patch_embedding.weight": (image, self.channels, self.patch, self.patch),
            "vision_model.embeddings.patch_embedding.bias": (image,),
            "vision_model.embeddings.position_embedding.weight": (self.vision.tokens, image),
            f"{head}.probe": (1, 1, image),
            f"{head}.attention.in_proj_weight": (3 * image, image),
            f"{head}.attention.in_proj_bias": (3 * image,),
            f"{head}.attention.out_proj.weight": (image, image),
            f"{head}.attention.out_proj.bias": (image,),
            f"{head}.mlp.fc1.weight": (inner, image),
            f"{head}.mlp.fc1.bias": (inner,),
            f"{head}.mlp.fc2.weight": (image, inner),
            f"{head}.mlp.fc2.bias": (image,),
        }
        norms = {"text_model.final_layer_norm": text, "vision_model.post_layernorm": image, f"{head}.layernorm": image}
        return shapes | norm_shapes(norms) | layers("text_model", self.text) | layers("vision_model", self.vision)
