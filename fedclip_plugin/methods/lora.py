"""LoRA on CLIP's image tower, through peft (Hu et al. 2022, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save as save_tensors
from torch import Tensor

from fedclip_edge.files import write_file, writing_to
from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.methods.base import AdapterInputs
from fedclip_plugin.methods.lora_matrices import LORA_ALPHA, LORA_NAME, add_lora, scaled
from fedclip_plugin.methods.pixel_base import PixelAdapter
from fedclip_plugin.methods.registry import LORA_RANK, LORA_TARGETS
from fedclip_plugin.runs import SavedAdapter


class Lora(PixelAdapter):
    """Add a trained matrix of low rank to the query and value projections of every layer; all else is frozen.

    ``W' = W + (alpha / r) B A`` (section 4.1) with alpha = r; A begins as ``torch.nn.Linear``, B at 0, so that round 0
    is zero-shot CLIP. Query and value are the paper's choice (section 4.2). The text side stays as it is.

    Shapes: w width of the tower, r rank. Parameters: ``4 r w`` a layer; 147,456 for r = 4 and ViT-B/32.
    """

    def __init__(
        self, frozen: AdapterInputs, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        clip = frozen.clip()
        super().__init__(clip)
        model = clip.hand_over().to(dtype)
        # Before the tower, which holds the same matrices: a parameter goes by the first name that it is found under.
        self.layers = add_lora(model.vision_model.encoder, generator)
        self.vision_model, self.visual_projection = model.vision_model, model.visual_projection

    @staticmethod
    def interpolate(start: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return the trained matrices with their products scaled by the share."""
        return scaled(trained, share)

    def _tower_weights(self) -> dict[str, Tensor]:
        """Return the weights with LoRA's products added."""
        every = super()._tower_weights()
        plain = {name.replace(".base_layer", ""): weight for name, weight in every.items() if ".lora_" not in name}
        for number, layer in enumerate(self.vision_model.encoder.layers):
            for target in LORA_TARGETS:
                added = getattr(layer.self_attn, target).get_delta_weight(LORA_NAME).detach()
                name = f"encoder.layers.{number}.self_attn.{target}.weight"
                plain[name] = plain[name] + added
        return plain


def save_peft(saved: SavedAdapter, folder: Path) -> None:
    """Write a LoRA adapter in peft's own format: ``adapter_config.json`` and ``adapter_model.safetensors``.

    ``peft.PeftModel.from_pretrained(CLIPModel.from_pretrained(BACKBONE), folder)`` reads it. The class features and the
    prompt template are not part of that format.

    Parameters
    ----------
    folder
        Is made; files of these names in it are replaced.

    Raises
    ------
    AdapterFileError
        The adapter is of another method, or the folder cannot be written.
    """
    if saved.method != "lora":
        raise AdapterFileError(f"an adapter of method {saved.method} is no LoRA: peft has no format for it")
    from peft import LoraConfig

    projections = "|".join(LORA_TARGETS)
    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=LORA_ALPHA,
        target_modules=rf"vision_model\.encoder\.layers\.\d+\.self_attn\.({projections})",
        base_model_name_or_path=saved.backbone,
        inference_mode=True,
    )
    tensors = {}
    for name, tensor in saved.tensors.items():
        _, layer, target, matrix, _ = name.split(".")  # layers.0.q_proj.a.weight
        place = f"base_model.model.vision_model.encoder.layers.{layer}.self_attn.{target}"
        tensors[f"{place}.lora_{matrix.upper()}.weight"] = np.ascontiguousarray(tensor)
    with writing_to(folder, AdapterFileError):
        folder.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(str(folder))
        write_file(folder / "adapter_model.safetensors", save_tensors(tensors))
