"""A backbone folder is a whole CLIP whose parts fit each other, or it is refused by name before anything is encoded."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.precision import agreement
from fedclip_plugin.errors import BackboneError

CPU = torch.device("cpu")
TINY = locate_backbone(BUILT_IN)
WEIGHTS = load_file(TINY / "model.safetensors")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 605157884\n"
PROMPTS = ["a picture of a dog", "a picture of a house"]


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(TINY, tmp_path / "clip")


def opened(folder):
    """Do what every command does with a backbone."""
    return FrozenClip(locate_backbone(str(folder)), CPU)


def weights(change):
    """Return a harm: the checkpoint with other weights."""
    return lambda folder: save_file(change(dict(WEIGHTS)), folder / "model.safetensors", metadata={"format": "pt"})


def pickled(change):
    """Return a harm: the checkpoint as a pickle, with other content."""

    def harm(folder):
        (folder / "model.safetensors").unlink()
        torch.save(change(dict(WEIGHTS)), folder / "pytorch_model.bin")

    return harm


def edited(file, change):
    """Return a harm: a JSON file, changed."""

    def harm(folder):
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return harm


def written(file, text):
    """Return a harm: a file, replaced."""
    return lambda folder: (folder / file).write_text(text)


def without(*files):
    """Return a harm: files that are not there."""
    return lambda folder: [(folder / file).unlink() for file in files]


def config(**changes):
    return edited("config.json", lambda content: content.update(changes))


def tower(name, **changes):
    return edited("config.json", lambda content: content[name].update(changes))


def processor(**changes):
    return edited("processor_config.json", lambda content: content["image_processor"].update(changes))


def vocabulary(words):
    return edited("tokenizer.json", lambda content: content["model"].update(vocab=words, merges=[]))


def filled(name, value):
    return weights(lambda every: every | {name: torch.full_like(every[name], value)})


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def piped(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def prefixed(every):
    return {f"module.{name}": weight for name, weight in every.items()}


def towerless(start):
    return lambda every: {name: weight for name, weight in every.items() if not name.startswith(start)}


def quantised(every):
    return every | {"visual_projection.weight": torch.zeros(128, 128, dtype=torch.int8)}


def shards(**content):
    """Return a harm: the weights as an index says."""

    def harm(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return harm


FOUND_EARLY = {
    "prefix": (weights(prefixed), "all names begin with 'module.'.*save the model inside"),
    "no text tower": (weights(towerless("text_model")), r"lacks text_model.* and 33 more.*its text tower"),
    "no image tower": (weights(towerless("vis")), "its image tower: save the whole CLIPModel"),
    "one missing": (weights(towerless("visual_projection")), r"lacks visual_projection\.weight, which would be random"),
    "one foreign": (weights(lambda every: every | {"x\x1b": torch.zeros(1)}), r"holds x\\x1b, which no CLIP has"),
    "projection": (config(projection_dim=64), r"visual_projection\.weight is \[128, 128\], \[64, 128\] by config"),
    "deeper": (tower("text_config", num_hidden_layers=3), r"lacks text_model\.encoder\.layers\.2"),
    "quantised": (weights(quantised), r"visual_projection\.weight as I8; give the backbone in floating point"),
    "truncated": (cut, "truncated or damaged"),
    "pointer": (written("model.safetensors", POINTER), "a text file that begins 'version .*git lfs pull"),
    "page": (written("model.safetensors", "<!DOCTYPE html>\n" + "x" * 9999), "begins '<!DOCTYPE html>'; fetch"),
    "empty": (written("model.safetensors", ""), "a text file that begins ''"),
    "no weights": (without("model.safetensors"), "holds no weights"),
    "a pipe": (piped, "holds no weights"),
    "index": (shards(metadata={}), "does not say which file holds which weight"),
    "shard": (shards(weight_map={"a": "1.safetensors"}), r"lacks 1\.safetensors, named in model"),
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
    "two tokens": (vocabulary({"<|startoftext|>": 0, "<|endoftext|>": 1}), "knows no letters"),
    "tokenizer no JSON": (written("tokenizer.json", "Not found"), r"tokenizer\.json is not JSON"),
    "tokenizer pointer": (written("tokenizer.json", POINTER), r"tokenizer\.json is a placeholder of git-lfs"),
    "tokenizer nested": (written("tokenizer.json", "[" * 100_000), r"tokenizer\.json is not JSON"),
    "other tokenizer": (vocabulary({f"w{at}": at for at in range(999)}), "has 999 tokens, .* knows 757"),
    "side": (processor(crop_size={"height": 96, "width": 96}), "makes images of 96 x 96 pixels.* takes 64 x 64"),
    "no processor": (without("processor_config.json"), "normalisation are unknown"),
    "config no JSON": (written("config.json", "{"), r"config\.json is not JSON"),
    "config a list": (written("config.json", "[]"), "is not a JSON object"),
    "bert": (config(model_type="bert"), "model_type 'bert'"),
    "text as number": (tower("vision_config", hidden_size="128"), "hidden_size must be a whole number"),
    "endless": (tower("vision_config", num_hidden_layers=10**9), "num_hidden_layers must be .* to 1,000"),
    "heads": (tower("text_config", num_attention_heads=3), "no multiple of num_attention_heads"),
    "patch": (tower("vision_config", patch_size=128), "patch_size 128 is more than image_size 64"),
}

FOUND_ON_LOADING = {
    "wrapper": (pickled(lambda every: {"state_dict": every, "epoch": 3}), "level down, under 'state_dict'"),
    "pickle with a prefix": (pickled(prefixed), "all names begin with 'module.'"),
    "pickle of something": (pickled(lambda every: 3), "cannot be loaded as a CLIP"),
    "NaN": (filled("visual_projection.weight", float("nan")), r"weight visual_projection\.weight holds NaN"),
    "infinite": (filled("text_projection.weight", -float("inf")), r"text_projection\.weight holds NaN or infinite"),
    "scale": (filled("logit_scale", 100.0), "logit_scale is 100, a logarithm"),
    "end marker": (tower("text_config", eos_token_id=7), "looks for, 7"),
    "alike": (vocabulary({letter * 2: at for at, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}), "tokenizer of"),
    "no padding": (edited("tokenizer_config.json", lambda content: content.update(pad_token=None)), "padding token"),
    "deviation": (processor(image_std=[0.5, 0.0, 0.5]), "pixels that are not finite"),
    "mean of four": (processor(image_mean=[0.5] * 4), "image processor .* cannot be used"),
}


@pytest.mark.parametrize(("harm", "message"), FOUND_EARLY.values(), ids=FOUND_EARLY)
def test_what_headers_tell_is_refused_before_anything_is_loaded(copy, harm, message):
    harm(copy)
    with pytest.raises(BackboneError, match=message) as refused:
        locate_backbone(str(copy))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("harm", "message"), FOUND_ON_LOADING.values(), ids=FOUND_ON_LOADING)
def test_what_only_loading_shows_is_refused_before_anything_is_encoded(copy, harm, message):
    harm(copy)
    with pytest.raises(BackboneError, match=message) as refused:
        opened(copy)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("harm", ["prefix", "no text tower", "one foreign", "projection"])
def test_transformers_word_on_the_weights_counts_too(copy, harm):
    """Names that headers are compared with are ours; what transformers could not place is refused in any case."""
    FOUND_EARLY[harm][0](copy)
    with pytest.raises(BackboneError, match="does not hold the weights of a CLIP"):
        FrozenClip(copy, CPU)


def positions(every):
    """What openai/clip-vit-base-patch32 and others of its time carry."""
    numbers = {"text_model": 24, "vision_model": 17}
    return every | {f"{name}.embeddings.position_ids": torch.arange(count)[None] for name, count in numbers.items()}


def legacy_tokenizer(folder):
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, model["merges"])))
    without("tokenizer.json", "tokenizer_config.json")(folder)


def sharded(folder):
    names = sorted(WEIGHTS)
    parts = {"a.safetensors": names[:50], "b.safetensors": names[50:]}
    for file, part in parts.items():
        save_file({name: WEIGHTS[name] for name in part}, folder / file, metadata={"format": "pt"})
    shards(metadata={}, weight_map={name: file for file, part in parts.items() for name in part})(folder)


WHOLE = {
    "older buffers": weights(positions),
    "older buffers in a pickle": pickled(positions),
    "pickle": pickled(dict),
    "prefix of the base model": weights(lambda every: {f"clip.{name}": weight for name, weight in every.items()}),
    "shards": sharded,
    "float32": weights(lambda every: {name: weight.float() for name, weight in every.items()}),
    "older tokenizer": legacy_tokenizer,
    "no settings of the tokenizer": without("tokenizer_config.json"),
    "early names in config": edited("config.json", lambda c: c.update(text_config_dict=c["text_config"])),
    "sizes as numbers": processor(size=64, crop_size=64),
}


@pytest.mark.parametrize("change", WHOLE.values(), ids=WHOLE)
def test_the_same_clip_in_other_clothes_is_taken(copy, change):
    change(copy)
    torch.testing.assert_close(opened(copy).encode_prompts(PROMPTS), FrozenClip(TINY, CPU).encode_prompts(PROMPTS))


def test_the_end_marker_of_the_first_clips_is_understood(copy):
    """Their configuration names token 2, and the tower takes the highest one, as their tokenizer ends prompts."""
    tower("text_config", eos_token_id=2)(copy)
    with pytest.raises(BackboneError, match="looks for, 2"):  # clip-tiny's own end marker is not the highest
        opened(copy)

    def swapped(content):
        words, last = content["model"]["vocab"], len(content["model"]["vocab"]) - 1
        other = next(word for word, number in words.items() if number == last)
        words["<|endoftext|>"], words[other] = last, 1
        content["added_tokens"][1]["id"] = last
        content["post_processor"]["sep"][1] = last

    edited("tokenizer.json", swapped)(copy)
    ids, mask = opened(copy).tokenize(PROMPTS)
    assert ids.argmax(-1).equal(mask.sum(-1) - 1)


def test_prompts_are_cut_off_where_the_text_tower_ends(copy):
    edited("tokenizer_config.json", lambda content: content.update(model_max_length=10**30))(copy)
    edited("tokenizer.json", lambda content: content.update(truncation=None))(copy)
    clip = opened(copy)
    ids, mask = clip.tokenize(["dog " * 100, "dog"])
    assert ids.shape == (2, 24)
    assert mask.sum(-1).tolist() == [24, 3]
    assert clip.encode_prompts(["dog " * 100]).isfinite().all()


def test_every_weight_of_a_clip_is_known_by_name_and_shape():
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        model = CLIPModel(CLIPConfig.from_pretrained(TINY))
    theirs = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    assert read_clip_config(TINY).weights() == theirs


def test_features_that_are_not_finite_are_named_with_the_backbone(copy):
    clip = opened(copy)
    with torch.no_grad():
        clip.model.visual_projection.weight.fill_(1e38)
        clip.model.text_projection.weight.fill_(float("nan"))
    pixels = torch.from_numpy(np.ones((1, 3, 64, 64), np.float32))
    with pytest.raises(BackboneError, match=rf"backbone {copy} in fp32 gives features that are not finite"):
        clip.encode_pixels(pixels)
    with pytest.raises(BackboneError, match="not finite"):
        clip.encode_prompts(PROMPTS)


def test_a_precision_that_overflows_agrees_with_nothing():
    def encode(pixels):
        if clip.precision == "fp16":
            raise BackboneError("not finite")
        return torch.ones(1, 4)

    clip = SimpleNamespace(precision="fp32", encode_pixels=encode)
    assert agreement(clip, "bf16", torch.zeros(1)) == pytest.approx(1)
    assert agreement(clip, "fp16", torch.zeros(1)) == 0
    assert clip.precision == "fp32"
