"""A CLIP of a true configuration with random weights: real size and real cost, no knowledge.

Run as ``python -m benchmarks.random_clip OUT [--small]``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fedclip_plugin.backbone import BUILT_IN, locate_backbone

SEED = 0
_SMALL_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_SMALL_VISION = {**_SMALL_TEXT, "image_size": 32, "patch_size": 16}
_SMALL_PROJECTION = 16
_LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_LARGE_SIDE = {"image_size": 336, "patch_size": 14}
_LARGE_VISION = {
    **_LARGE_SIDE,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}
_BIAS, _NORM = 0.02, 0.1


def write_random_clip(folder: Path, small: bool = False, seed: int = SEED, large: bool = False) -> Path:
    """Write a backbone folder in the transformers layout, which FrozenClip loads as any other.

    The configuration is ``CLIPConfig()``, that of openai/clip-vit-base-patch32: 151 M parameters, 512-wide joint
    space, 224 pixels, 49,408 token embeddings. The tokenizer is clip-tiny's, and its special tokens stand in the
    configuration, so that the text tower pools at the right place. ``large`` ones are as openai's ViT-L/14 at 336
    pixels, of 428 M parameters. ``small`` ones have tiny widths, for tests.
    """
    from transformers import AutoTokenizer, CLIPModel, CLIPProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(locate_backbone(BUILT_IN), local_files_only=True)
    config = _config(tokenizer, small, large)
    tokenizer.model_max_length = config.text_config.max_position_embeddings
    side = config.vision_config.image_size
    images = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
        stir(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def random_clip(work: Path, small: bool) -> Path:
    """Return such a folder under ``work``, written the first time."""
    folder = work / ("small_clip" if small else "vit_b32")
    if not (folder / "processor_config.json").exists():  # written last
        write_random_clip(folder, small)
    return folder


def _config(tokenizer: Any, small: bool, large: bool) -> Any:
    from transformers import CLIPConfig

    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if small:
        vision = _SMALL_VISION | (_LARGE_SIDE if large else {})
        return CLIPConfig(text_config=special | _SMALL_TEXT, vision_config=vision, projection_dim=_SMALL_PROJECTION)
    if large:
        return CLIPConfig(text_config=special | _LARGE_TEXT, vision_config=_LARGE_VISION, projection_dim=768)
    return CLIPConfig(text_config=special)


@torch.no_grad()
def stir(model: torch.nn.Module) -> None:
    """Move biases and normalisations off their initial values: fresh ones give all images nearly parallel features."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0, _BIAS)
        elif "norm" in name and name.endswith("weight"):
            parameter.normal_(1, _NORM)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="benchmarks.random_clip", description=write_random_clip.__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--small", action="store_true", help="tiny widths, for tests")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(argv)
    folder = write_random_clip(options.out, options.small, options.seed)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(f"{folder}: random weights, {size / 1e6:,.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
