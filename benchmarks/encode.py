"""Encode once against encoding again in every epoch, and encoding files against the pure forward pass."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.epochs import compare_epochs
from benchmarks.random_clip import random_clip
from benchmarks.setup.encode_subject import Subject, rank_threads
from benchmarks.setup.random_images import write_jpegs
from benchmarks.setup.ratios import Figure
from benchmarks.setup.workload import Scale
from benchmarks.throughput import compare_throughput
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip

TITLE = "encode: once against in every epoch (a rank's threads); files against the forward pass (all threads)"
GOAL = 283.0


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures: clip-tiny first, then a random-weight ViT-B/32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = write_jpegs(work / "jpegs", max(scale.tiny_images, scale.large_images, scale.throughput_images))
    tiny = Subject("clip-tiny", FrozenClip(locate_backbone(BUILT_IN), device), images, device)
    name = "small CLIP" if scale.small_backbone else "ViT-B/32"
    large = Subject(name, FrozenClip(random_clip(work, scale.small_backbone), device), images, device)
    with rank_threads():
        figures = compare_epochs(tiny.first(scale.tiny_images), scale.passes)
        figures += compare_epochs(large.first(scale.large_images), 1, None if scale.small_backbone else GOAL)
    return figures + compare_throughput(large.first(scale.throughput_images), scale.passes)
