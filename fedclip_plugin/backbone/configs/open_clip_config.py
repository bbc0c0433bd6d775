"""What ``open_clip_config.json`` says of an OpenCLIP folder; no torch, no open_clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from fedclip_plugin.backbone.configs.backbone_config import BackboneConfig, Shape, Tower, number, section

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""In the order in which open_clip looks for them."""

_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # of PIL.Image.Resampling
_RESIZE_MODES = ("shortest", "squash")
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HEAD = 64  # width of a head of attention, unless the configuration says another
_UNKNOWN_PATCH, _UNKNOWN_WIDTH = 16, 768  # of towers that timm or transformers know by name: for estimates of memory


@dataclass(frozen=True, kw_only=True)
class OpenClipConfig(BackboneConfig):
    """The numbers of an OpenCLIP model (Ilharco et al. 2021, doi 10.5281/zenodo.5143773).

    Where a tower is known to timm or transformers by its name alone, its width and layers are those of a ViT-B/16, for
    estimates of memory.
    """

    family: ClassVar[str] = "open_clip"
    title: ClassVar[str] = "OpenCLIP"

    floats: int  # all weights, by the size of their file
    text_tower: str  # transformers' name of the text tower; empty for open_clip's own
    resample: int  # by which filter of ``PIL.Image.Resampling`` images are resized
    squash: bool  # both sides become S; else the shorter side does, and the centre is kept
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        """Return what the file says, with the ``floats`` of the weights; a ValueError or TypeError names a fault."""
        model, images = section(config, "model_cfg"), section(config, "preprocess_cfg")
        vision, text = section(model, "vision_cfg"), section(model, "text_cfg")
        if not vision or not text:
            raise ValueError("model_cfg holds no vision_cfg or no text_cfg")
        if text.get("hf_model_name") and not text.get("hf_tokenizer_name"):
            raise ValueError(
                "text_cfg names a text tower of transformers (hf_model_name) and no tokenizer: open_clip would take "
                "that of CLIP, whose words are others; add hf_tokenizer_name"
            )
        if "multimodal_cfg" in model:
            raise ValueError("it is a CoCa (multimodal_cfg), which also writes captions")
        side = _side(vision)
        patch = min(number(vision, "patch_size", _UNKNOWN_PATCH), side)
        positions = number(text, "context_length", 77)
        return cls(
            vision=_tower(vision, tokens=(side // patch) ** 2 + 1),
            text=_tower(text, tokens=positions),
            side=side,
            patch=patch,
            channels=3,
            vocabulary=number(text, "vocab_size", 49408),
            positions=positions,
            end=None,
            dim=number(model, "embed_dim", 512),
            floats=number(config, "floats", 0, least=0, most=10**12),
            text_tower=str(text.get("hf_model_name") or ""),
            resample=_RESAMPLE[_one_of(images, "interpolation", "bicubic", _RESAMPLE)],
            squash=_one_of(images, "resize_mode", "shortest", _RESIZE_MODES) == "squash",
            mean=_three(images, "mean", _MEAN),
            std=_three(images, "std", _STD),
        )

    @property
    def parameters(self) -> int:
        """Number of all weights, by the size of their file."""
        return self.floats

    def weights(self) -> dict[str, Shape]:
        """Return nothing: open_clip alone knows the names, and loads no file that lacks one or has another."""
        return {}


def _tower(part: Mapping[str, Any], tokens: int) -> Tower:
    width, layers = number(part, "width", _UNKNOWN_WIDTH), part.get("layers", 12)
    if not isinstance(layers, int):
        raise ValueError(f"layers is {str(layers)[:40]}: a ResNet, and only transformers and towers of timm are read")
    heads = number(part, "heads", max(1, width // number(part, "head_width", _HEAD)))
    return Tower(width=width, inner=4 * width, layers=layers, heads=heads, tokens=tokens)


def _side(vision: Mapping[str, Any]) -> int:
    side = vision.get("image_size", 224)
    if isinstance(side, Sequence) and len(set(side)) == 1:
        side = side[0]
    return number({"image_size": side}, "image_size", 224)


def _one_of(part: Mapping[str, Any], key: str, default: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    value = part.get(key) or default
    if value not in known:
        raise ValueError(f"{key} is {str(value)[:40]!r}; {' and '.join(known)} are supported")
    return str(value)


def _three(part: Mapping[str, Any], key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    value = part.get(key) or default
    if not isinstance(value, Sequence) or len(value) != 3 or not all(isinstance(own, int | float) for own in value):
        raise ValueError(f"{key} is {str(value)[:40]}; it must be three numbers")
    return tuple(float(own) for own in value)
