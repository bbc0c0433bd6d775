"""The shape of clip-tiny and its initial weights, drawn from an explicit generator."""

from __future__ import annotations

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from fedclip_miniature.canvas import SIZE
from fedclip_miniature.pretraining.tokenizer import CONTEXT

WIDTH = 128
PATCH = 16
VISION_LAYERS, TEXT_LAYERS = 4, 2


def clip_tiny_config(tokenizer: CLIPTokenizer) -> CLIPConfig:
    """Return the configuration: 64 px in patches of 16, width 128, 4 + 2 layers, projection 128."""
    encoder = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_attention_heads": 2,
        "projection_dim": WIDTH,
    }
    text = {
        **encoder,
        "num_hidden_layers": TEXT_LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.eos_token_id,
    }
    vision = {**encoder, "num_hidden_layers": VISION_LAYERS, "image_size": SIZE, "patch_size": PATCH}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)


def grid_positions(side: int, width: int) -> torch.Tensor:
    """Return sine and cosine codes of the places of a ``side`` by ``side`` grid; [side * side, width]."""
    pace = 50.0 ** -(torch.arange(width // 4) / (width // 4))
    step = torch.arange(side) * (8 / side)
    rows, columns = (place.reshape(-1, 1) * pace for place in torch.meshgrid(step, step, indexing="ij"))
    return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1)


def _deviation(name: str, parameter: torch.Tensor) -> float:
    """Return a matrix's initial deviation: 1/sqrt(inputs), smaller where a residual branch ends."""
    if "embedding" in name and "patch" not in name:
        return 0.02
    layers = VISION_LAYERS if name.startswith("vision") else TEXT_LAYERS
    ends_branch = name.endswith(("out_proj.weight", "fc2.weight"))
    return float(parameter[0].numel() ** -0.5 * ((2 * layers) ** -0.5 if ends_branch else 1.0))


def build_clip_tiny(tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """Build clip-tiny with initial weights that depend on ``seed`` alone, float32."""
    model = CLIPModel(clip_tiny_config(tokenizer))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(1.0)
            elif parameter.ndim == 0:
                parameter.fill_(2.6592)  # log(1 / 0.07), as CLIP starts
            elif parameter.ndim == 1:
                parameter.normal_(0, 0.02, generator=generator)
            else:
                parameter.normal_(0, _deviation(name, parameter), generator=generator)
        places = model.vision_model.embeddings.position_embedding.weight
        places[1:] = grid_positions(SIZE // PATCH, WIDTH) * 0.7
    return model
