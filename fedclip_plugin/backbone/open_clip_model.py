"""An OpenCLIP folder, loaded by open_clip, by the names that this project knows; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fedclip_plugin.backbone.checkpoint import reading
from fedclip_plugin.backbone.configs.backbone_config import read_json
from fedclip_plugin.backbone.configs.open_clip_config import OPEN_CLIP_CONFIG
from fedclip_plugin.backbone.locate import find_in_hub_cache
from fedclip_plugin.errors import BackboneError


class _Pooled(NamedTuple):
    pooler_output: Tensor


class _Images(nn.Module):
    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixel_values: Tensor) -> _Pooled:
        """Return features ``[B, d]`` of pixels ``[B, 3, S, S]``."""
        return _Pooled(self.tower(pixel_values))


class _Texts(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> _Pooled:
        """Return features ``[C, d]`` of tokens ``[C, L]``; the tower finds a prompt's end itself."""
        return _Pooled(self.model.encode_text(input_ids))


class OpenClip(nn.Module):
    """An OpenCLIP model by the names of transformers' ``CLIPModel``; it projects inside of its towers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.logit_scale: nn.Parameter = model.logit_scale
        self.vision_model, self.visual_projection = _Images(model.visual), nn.Identity()
        self.text_model, self.text_projection = _Texts(model), nn.Identity()


def load_open_clip(folder: Path, text_tower: str) -> OpenClip:
    """Return the model of a folder, in float32 on the CPU; all of its weights are those of the file, and no others.

    Torch's own files are read as weights only. Where transformers has the text tower (``text_tower``), its
    configuration must be in the hub cache, or a folder.

    Raises
    ------
    BackboneError
        When open_clip is not installed or cannot load the folder, or the text tower's configuration is not here.
    """
    open_clip = _open_clip(folder)
    changes: dict[str, Any] = {}
    if text_tower:
        place = Path(text_tower) if Path(text_tower).is_dir() else find_in_hub_cache(text_tower)
        own = read_json(folder / OPEN_CLIP_CONFIG)["model_cfg"]["text_cfg"]
        changes["text_cfg"] = own | {"hf_model_name": str(place), "hf_model_pretrained": False}
    with reading(f"backbone {folder} cannot be loaded by open_clip"):
        model = open_clip.create_model(
            f"local-dir:{folder}",
            device="cpu",
            precision="fp32",
            pretrained_image=False,
            pretrained_text=False,
            weights_only=True,
            require_pretrained=True,
            **changes,
        )
    return OpenClip(model)


class OpenClipTokenizer:
    """The tokenizer that open_clip takes for a folder: its own, or that of the folder's files."""

    def __init__(self, folder: Path) -> None:
        open_clip = _open_clip(folder)
        with reading(f"the tokenizer of backbone {folder} cannot be used"):
            self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return tokens, padded to all places, ``[C, L]``, and a mask of ones: the tower finds the ends itself."""
        ids: Tensor = self._tokenizer(list(prompts))
        return ids, torch.ones_like(ids)


def _open_clip(folder: Path) -> Any:
    if find_spec("open_clip") is None:
        raise BackboneError(
            f"backbone {folder} is an OpenCLIP folder ({OPEN_CLIP_CONFIG}), for which open_clip is not installed: "
            "pip install 'fedclip-plugin[open_clip]'"
        )
    import open_clip

    return open_clip
