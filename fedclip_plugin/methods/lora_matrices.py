"""LoRA's matrices in one of CLIP's towers, through peft (Hu et al. 2022, arXiv 2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fedclip_plugin.methods.registry import LORA_RANK, LORA_TARGETS

LORA_ALPHA = 4
"""The product of the matrices is scaled by alpha / r, 1."""

LORA_NAME = "default"
"""Peft's own name for an adapter."""


def add_lora(encoder: Any, generator: torch.Generator | None) -> nn.ModuleList:
    """Put LoRA into the layers of a tower, all else frozen, and return the trained matrices, by layer and projection.

    A begins as ``torch.nn.Linear``, B at 0, in the type of the tower.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules=list(LORA_TARGETS))
    with torch.random.fork_rng(devices=[]):  # peft draws A from the global generator
        inject_adapter_in_model(config, encoder, adapter_name=LORA_NAME)
    layers = nn.ModuleList(_matrices(layer.self_attn) for layer in encoder.layers)
    for name, matrix in layers.named_parameters():
        if name.endswith(".a.weight"):
            sampled = torch.empty(matrix.shape, dtype=matrix.dtype)  # on the CPU: the same on every device
            matrix.data.copy_(nn.init.kaiming_uniform_(sampled, a=math.sqrt(5), generator=generator))
    return layers


def scaled(trained: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return matrices whose products are ``share`` of the trained ones, which is so much of the way from no LoRA."""
    return {name: own * share if name.endswith(".b.weight") else own for name, own in trained.items()}


def new_layer(width: int) -> nn.ModuleDict:
    """Return matrices of one layer by themselves, outside of a tower of that width; their values are not set."""
    sides = {"a": (width, LORA_RANK), "b": (LORA_RANK, width)}
    return nn.ModuleDict(
        {
            target: nn.ModuleDict({name: nn.Linear(*sizes, bias=False) for name, sizes in sides.items()})
            for target in LORA_TARGETS
        }
    )


def _matrices(attention: Any) -> nn.ModuleDict:
    """Return the trained matrices of one layer, by projection."""
    return nn.ModuleDict(
        {
            target: nn.ModuleDict({"a": layer.lora_A[LORA_NAME], "b": layer.lora_B[LORA_NAME]})
            for target, layer in ((target, getattr(attention, target)) for target in LORA_TARGETS)
        }
    )
