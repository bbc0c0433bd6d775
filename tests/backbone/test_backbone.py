"""The frozen CLIP: found, identified, and encoding as transformers does."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.backbone.precision import agreement, candidate, choose
from fedclip_plugin.errors import BackboneError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip():
    return FrozenClip(locate_backbone(BUILT_IN), CPU)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(locate_backbone(BUILT_IN), tmp_path / "clip")


def image(width=90, height=70, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_features_are_those_of_transformers(clip):
    from transformers import AutoProcessor, CLIPModel

    folder = locate_backbone(BUILT_IN)
    model, processor = CLIPModel.from_pretrained(folder, dtype=torch.float32), AutoProcessor.from_pretrained(folder)
    prompts, pixels = ["a picture of a dog", "a picture of a house"], torch.from_numpy(clip.preprocess(image()))[None]
    with torch.no_grad():
        theirs = model(**processor(text=prompts, return_tensors="pt", padding=True), pixel_values=pixels)
    own = torch.nn.functional.normalize(clip.encode_pixels(pixels), dim=-1)
    torch.testing.assert_close(own, theirs.image_embeds, atol=1e-6, rtol=0)
    torch.testing.assert_close(clip.encode_prompts(prompts), theirs.text_embeds, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        clip.logit_scale * own @ theirs.text_embeds.T, theirs.logits_per_image, atol=1e-4, rtol=0
    )


def test_a_prompt_means_the_same_alone_and_in_company(clip):
    alone = clip.encode_prompts(["a picture of a dog"])
    together = clip.encode_prompts(["a picture of a dog", "a very long picture of an elephant in front of the sea"])
    torch.testing.assert_close(alone[0], together[0], atol=1e-6, rtol=0)


def test_pixels_are_pils_bicubic_centre_crop(clip):
    wide = image(200, 100)
    resized = np.asarray(wide.resize((128, 64), Image.Resampling.BICUBIC))[:, 32:96]
    expected = (resized.astype(np.float32) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(clip.preprocess(wide), expected.transpose(2, 0, 1), atol=1e-6)


def test_the_preprocessing_file_of_the_first_clips_is_understood(copy):
    """openai/clip-vit-base-patch32 gives its sizes as plain numbers, under the processor's name of 2021."""
    (copy / "processor_config.json").unlink()
    old = {"crop_size": 64, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 64}
    old |= {"feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (copy / "preprocessor_config.json").write_text(json.dumps(old))
    now, before = FrozenClip(locate_backbone(BUILT_IN), CPU), FrozenClip(copy, CPU)
    np.testing.assert_array_equal(now.preprocess(image(200, 100)), before.preprocess(image(200, 100)))


def test_nothing_is_trainable(clip):
    assert not clip.encode_pixels(torch.zeros(1, 3, 64, 64)).requires_grad


def test_the_fingerprint_tells_weights_and_preprocessing_apart(copy, tmp_path):
    memory = tmp_path / "memory.json"
    original = fingerprint(copy, memory)
    assert fingerprint(copy, memory) == fingerprint(copy) == original
    config = copy / "processor_config.json"
    config.write_text(config.read_text().replace("0.25", "0.26"))
    changed = fingerprint(copy, memory)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(weights))
    assert len({original, changed, fingerprint(copy, memory)}) == 3


def test_a_broken_memory_of_hashes_is_forgotten(copy, tmp_path):
    (tmp_path / "memory.json").write_text("{oops")
    assert fingerprint(copy, tmp_path / "memory.json") == fingerprint(copy)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "no such folder"),
        ("nonsense", "not a hub name"),
        ("owner/model", "hf download owner/model"),
        ("a/b c", "nor a hub"),
    ],
)
def test_a_backbone_that_is_not_here_says_how_to_get_it(name, message, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BackboneError, match=message):
        locate_backbone(name)


def test_a_folder_that_is_no_clip_is_refused(copy):
    config = copy / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "bert"}))
    with pytest.raises(BackboneError, match="model_type 'bert'"):
        locate_backbone(str(copy))
    config.write_text("[")
    with pytest.raises(BackboneError, match="not JSON"):
        locate_backbone(str(copy))
    config.unlink()
    with pytest.raises(BackboneError, match=r"no config\.json"):
        locate_backbone(str(copy))


def test_automatic_precision_is_checked_against_float32(clip, monkeypatch):
    pixels = torch.from_numpy(np.stack([clip.preprocess(image(seed=seed)) for seed in range(4)]))
    assert agreement(clip, "fp32", pixels) == pytest.approx(1.0, abs=1e-6)
    assert agreement(clip, "bf16", pixels) < 1
    assert clip.precision == "fp32"
    monkeypatch.setattr("fedclip_plugin.backbone.precision.candidate", lambda device: "bf16")
    monkeypatch.setattr("fedclip_plugin.backbone.precision.agreement", lambda *words: 0.5)
    assert choose(clip, CPU, pixels) == "fp32"
    monkeypatch.setattr("fedclip_plugin.backbone.precision.agreement", lambda *words: 0.9999)
    assert choose(clip, CPU, pixels) == "bf16"


def test_the_candidate_is_a_precision_of_the_recipe():
    assert candidate(CPU) in ("fp32", "bf16")
