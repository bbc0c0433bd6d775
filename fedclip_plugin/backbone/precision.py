"""Which arithmetic the encoder runs in, chosen by measurement when the recipe says ``auto``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.errors import BackboneError

CHECKED_IMAGES = 16
LOWEST_COSINE = 0.999


def candidate(device: torch.device) -> str:
    """Return the fastest precision that ``device`` computes natively: ``bf16`` or ``fp32``."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capability = torch.backends.cpu.get_cpu_capability()
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported() if torch.backends.mkldnn.is_available() else False
    return "bf16" if native and capability.startswith(("AVX512", "AMX")) else "fp32"


@contextmanager
def computing_in(clip: FrozenClip, precision: str) -> Iterator[None]:
    """Let a backbone compute in ``precision`` for the length of the block."""
    before, clip.precision = clip.precision, precision
    try:
        yield
    finally:
        clip.precision = before


def agreement(clip: FrozenClip, precision: str, pixels: Tensor) -> float:
    """Return the lowest cosine between features of ``[B, 3, S, S]`` in ``precision`` and in float32; 0 on overflow."""
    with computing_in(clip, "fp32"):
        exact = clip.encode_pixels(pixels)
    try:
        with computing_in(clip, precision):
            approximate = clip.encode_pixels(pixels)
    except BackboneError:  # it overflows
        return 0.0
    return float(torch.nn.functional.cosine_similarity(exact, approximate, dim=-1).min())


def choose(clip: FrozenClip, device: torch.device, pixels: Tensor) -> str:
    """Return the precision to encode in: the fast one when a few images' features agree with float32, else ``fp32``."""
    fast = candidate(device)
    if fast == "fp32" or agreement(clip, fast, pixels) < LOWEST_COSINE:
        return "fp32"
    return fast
