"""OpenCLIP folders against open_clip itself: tokens, pixels, features; what is refused, and what is not run."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.random_duals import KINDS, write_random_open_clip
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.configs.open_clip_config import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.errors import BackboneError
from tests.support.noise_images import noise

CPU = torch.device("cpu")
PROMPTS = ["a photo of a dog", "a photo of a House", "art, painting: of a guitar!"]
SAFE, _, PICKLE = OPEN_CLIP_WEIGHTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_random_open_clip(tmp_path_factory.mktemp("open_clip") / "small", small=True)


@pytest.fixture(scope="module")
def clip(folder):
    return FrozenClip(locate_backbone(folder), CPU)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def edit(folder, part, **changes):
    config = json.loads((folder / OPEN_CLIP_CONFIG).read_text())
    place = config
    for name in part.split("."):
        place = place[name]
    place.update(changes)
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize("kind", ["open_clip", "mobile_clip", "biomed_clip"])
def test_features_are_those_of_open_clip(kind, tmp_path):
    folder = KINDS[kind](tmp_path / "backbone", True, 0)
    clip = FrozenClip(locate_backbone(folder), CPU)
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    images = [noise(50, 40, seed) for seed in range(3)]
    pixels = torch.from_numpy(np.stack([clip.preprocess(image) for image in images]))
    assert torch.equal(pixels, torch.stack([transform(image) for image in images]))
    assert clip.tokenize(PROMPTS)[0].equal(tokenizer(PROMPTS))
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_pixels(pixels), model.encode_image(pixels))
        torch.testing.assert_close(clip.encode_prompts(PROMPTS), model.encode_text(tokenizer(PROMPTS), normalize=True))
    assert clip.feature_dim == 16
    assert clip.logit_scale == pytest.approx(1 / 0.07)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"interpolation": "bilinear", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
        {"resize_mode": "squash"},
        {"resize_mode": "squash", "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
    ],
    ids=str,
)
def test_pixels_are_those_of_open_clip(copy, settings):
    edit(copy, "preprocess_cfg", **settings)
    own = FrozenClip(copy, CPU)
    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{copy}")
    for number, (width, height) in enumerate(np.random.default_rng(5).integers(1, 200, (40, 2)).tolist()):
        image = noise(width, height, number)
        assert np.array_equal(own.preprocess(image), transform(image).numpy())


def test_weights_in_a_pickle_are_read_as_weights_only(folder, copy):
    torch.save(load_file(copy / SAFE), copy / PICKLE)
    (copy / SAFE).unlink()
    pixels = torch.rand(2, 3, 32, 32)
    assert FrozenClip(copy, CPU).encode_pixels(pixels).equal(FrozenClip(folder, CPU).encode_pixels(pixels))


class Deed:
    """What runs where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_pickle_does_not_run(copy, tmp_path):
    (copy / SAFE).unlink()
    torch.save({"positional_embedding": Deed(tmp_path / "done")}, copy / PICKLE)
    with pytest.raises(BackboneError, match="cannot be loaded by open_clip: Weights only load failed"):
        FrozenClip(copy, CPU)
    assert not (tmp_path / "done").exists()


def test_the_fingerprint_counts_configuration_and_weights(folder, copy):
    assert fingerprint(copy) == fingerprint(folder)
    edit(copy, "preprocess_cfg", resize_mode="squash")
    other = fingerprint(copy)
    save_file(load_file(copy / SAFE) | {"logit_scale": torch.tensor(1.0)}, copy / SAFE)
    assert len({fingerprint(folder), other, fingerprint(copy)}) == 3


def test_parameters_are_known_by_the_files_size(folder):
    true = sum(weight.numel() for weight in load_file(folder / SAFE).values())
    assert read_clip_config(folder).parameters == pytest.approx(true, rel=0.01)


@pytest.mark.parametrize(
    ("part", "changes", "told"),
    [
        ("preprocess_cfg", {"resize_mode": "longest"}, "resize_mode is 'longest'; shortest and squash are supported"),
        ("preprocess_cfg", {"interpolation": "random"}, "interpolation is 'random'; bilinear and bicubic"),
        ("preprocess_cfg", {"mean": [0.5]}, "three numbers"),
        ("model_cfg", {"multimodal_cfg": {}}, "CoCa"),
        ("model_cfg", {"text_cfg": {}}, "no vision_cfg or no text_cfg"),
        ("model_cfg.text_cfg", {"hf_model_name": "own/tower"}, "no tokenizer: .* add hf_tokenizer_name"),
        ("model_cfg.vision_cfg", {"layers": [3, 4, 6, 3]}, "ResNet"),
        ("model_cfg.vision_cfg", {"image_size": [32, 48]}, "image_size must be a whole number"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(copy, part, changes, told):
    edit(copy, part, **changes)
    with pytest.raises(BackboneError, match=told):
        locate_backbone(copy)


def test_weights_that_do_not_fit_are_refused(copy):
    edit(copy, "model_cfg", embed_dim=24)
    with pytest.raises(BackboneError, match=r"cannot be loaded by open_clip: .*size mismatch"):
        FrozenClip(copy, CPU)


def test_a_folder_without_weights_is_refused(copy):
    (copy / SAFE).unlink()
    with pytest.raises(BackboneError, match=r"holds no weights .open_clip_model.safetensors"):
        locate_backbone(copy)


def test_a_text_tower_of_transformers_must_be_here_already(copy):
    names = dict.fromkeys(("hf_model_name", "hf_tokenizer_name"), "nobody/biomedical-text")
    edit(copy, "model_cfg.text_cfg", **names)
    with pytest.raises(BackboneError, match="'nobody/biomedical-text' is not in this machine's hub cache"):
        FrozenClip(copy, CPU)


def test_without_open_clip_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setattr("fedclip_plugin.backbone.open_clip_model.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install 'fedclip-plugin\[open_clip\]'"):
        FrozenClip(folder, CPU)


def test_where_transformers_can_read_a_folder_it_does(copy):
    shutil.copy(locate_backbone("clip-tiny") / "config.json", copy)
    assert read_clip_config(copy).family == "clip"
    (copy / "config.json").write_text(json.dumps({"architecture": "vit_base_patch32_clip_224"}))  # as timm's are
    assert read_clip_config(copy).family == "open_clip"
