"""Backbones of the true configurations with random weights: real size and real cost, no knowledge.

Run as ``python -m benchmarks.random_duals KIND OUT [--small]``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.random_clip import SEED, stir, write_random_clip
from fedclip_plugin.backbone.checkpoint import SENTENCES
from fedclip_plugin.backbone.configs.open_clip_config import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
"""Tiny widths, for tests."""

SMALL_SIDE, SMALL_VOCABULARY = 32, 400
_SMALL_OPEN_TEXT = {"width": 32, "heads": 2, "layers": 2}
_TEXTS = (
    "a photo of a dog",
    "a picture of an elephant, a giraffe or a guitar",
    "a sketch of a horse in a house",
    "art painting and cartoon of a person",
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen liquor jugs",
)
"""What the tokenizers are trained on; all letters are in it."""


def write_random_siglip(folder: Path, small: bool = False, seed: int = SEED) -> Path:
    """Write a SigLIP as google/siglip-base-patch16-224: 203 M parameters, bicubic, a tokenizer of sentencepiece."""
    _write_siglip(folder, 32_000, 3, small, seed)
    train_sentences(folder / SENTENCES, 60)
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 64, "model_input_names": ["input_ids"]}
    _write_json(folder / "tokenizer_config.json", settings)
    return folder


def write_random_siglip2(folder: Path, small: bool = False, seed: int = SEED) -> Path:
    """Write a SigLIP 2 as google/siglip2-base-patch16-224: 375 M parameters, bilinear, Gemma's kind of tokenizer."""
    _write_siglip(folder, 256_000, 2, small, seed)
    _gemma_tokenizer().save(str(folder / "tokenizer.json"))
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "GemmaTokenizer", "padding_side": "right", "model_input_names": ["input_ids"]}
    _write_json(folder / "tokenizer_config.json", settings | special)
    return folder


def write_random_open_clip(folder: Path, small: bool = False, seed: int = SEED) -> Path:
    """Write an OpenCLIP folder as of laion's ViT-B-32: 151 M parameters, bicubic, open_clip's own tokenizer."""
    import open_clip

    config = open_clip.get_model_config("ViT-B-32")
    if small:
        config["embed_dim"] = 16
        config["vision_cfg"] |= {"image_size": SMALL_SIDE, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}
        config["text_cfg"] |= _SMALL_OPEN_TEXT
    images = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    return _write_open_clip(folder, config, images, seed)


def write_random_mobile_clip(folder: Path, small: bool = False, seed: int = SEED) -> Path:
    """Write an OpenCLIP folder as of apple's MobileCLIP-S1: 85 M parameters, a FastViT of timm, pixels from 0 to 1."""
    import open_clip

    config = open_clip.get_model_config("MobileCLIP-S1")
    if small:
        config["embed_dim"] = 16
        config["vision_cfg"] |= {"timm_model_name": "fastvit_t8", "image_size": 64}
        config["text_cfg"] |= _SMALL_OPEN_TEXT
    images = {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"}
    return _write_open_clip(folder, config, images, seed)


def write_random_biomed_clip(folder: Path, small: bool = False, seed: int = SEED) -> Path:
    """Write an OpenCLIP folder as of microsoft's BiomedCLIP: 196 M parameters, towers of timm and of transformers.

    The text tower's configuration, which lies in the hub cache for the published one, is in ``folder/text``.
    """
    import open_clip
    from transformers import BertConfig

    vision = {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    if small:
        vision |= {"timm_model_name": "test_vit3", "image_size": 160}
    BertConfig(vocab_size=30_522, **(SMALL if small else {})).save_pretrained(folder / "text")
    _bert_tokenizer().save_pretrained(folder)
    text = {"hf_model_name": str(folder / "text"), "hf_tokenizer_name": str(folder), "context_length": 256}
    text |= {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler", "hf_model_pretrained": False}
    config = {"embed_dim": 16 if small else 512, "vision_cfg": vision, "text_cfg": text}
    images = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    return _write_open_clip(folder, config, images, seed)


def _write_open_clip(folder: Path, config: Mapping[str, Any], images: Mapping[str, Any], seed: int) -> Path:
    import open_clip
    from safetensors.torch import save_file

    parts = {name: config[name] for name in ("embed_dim", "vision_cfg", "text_cfg")}
    towers = config["vision_cfg"].keys() | config["text_cfg"].keys()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        custom = any(name.startswith(("timm_", "hf_")) for name in towers)
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**parts)
        stir(model)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, folder / OPEN_CLIP_WEIGHTS[0])
    _write_json(folder / OPEN_CLIP_CONFIG, {"model_cfg": config, "preprocess_cfg": images})
    return folder


def train_sentences(path: Path, size: int) -> None:
    """Write a sentencepiece model of ``size`` pieces, with the special tokens where the first SigLIPs have them."""
    import sentencepiece

    with path.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(_TEXTS),
            model_writer=stream,
            vocab_size=size,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            hard_vocab_limit=False,
            minloglevel=2,
        )


def _gemma_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Replace("\u2581", " ")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(_TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return tokenizer


def _bert_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokenizer = Tokenizer(models.WordPiece(unk_token=special["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        _TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=list(special.values()), show_progress=False)
    )
    ends = [(special[name], tokenizer.token_to_id(special[name])) for name in ("cls", "sep")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in special.items()}
    )


def _write_siglip(folder: Path, vocabulary: int, resample: int, small: bool, seed: int) -> None:
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    own = SMALL if small else {}
    side = SMALL_SIDE if small else 224
    text = {"vocab_size": SMALL_VOCABULARY if small else vocabulary, **own}
    config = SiglipConfig(text_config=text, vision_config={"image_size": side, **own})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SiglipModel(config)
        stir(model)
        model.logit_scale.data.fill_(4.7)
        model.logit_bias.data.fill_(-16.0)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": side, "width": side}, resample=resample).save_pretrained(folder)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


KINDS: dict[str, Callable[[Path, bool, int], Path]] = {
    "clip_l14_336": lambda folder, small, seed: write_random_clip(folder, small, seed, large=True),
    "siglip": write_random_siglip,
    "siglip2": write_random_siglip2,
    "open_clip": write_random_open_clip,
    "mobile_clip": write_random_mobile_clip,
    "biomed_clip": write_random_biomed_clip,
}
"""What writes each kind of backbone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="benchmarks.random_duals", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--small", action="store_true", help="tiny widths, for tests")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(argv)
    folder = KINDS[options.kind](options.out, options.small, options.seed)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(f"{folder}: random weights, {size / 1e6:,.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
