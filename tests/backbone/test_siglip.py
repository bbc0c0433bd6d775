"""SigLIP and SigLIP 2 against transformers: weights, tokens, pixels, features; what folders are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from benchmarks.random_duals import write_random_siglip, write_random_siglip2
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.data.decoding.center_crop import CenterCrop
from fedclip_plugin.errors import BackboneError
from tests.support.noise_images import noise

CPU = torch.device("cpu")
WRITERS = {"siglip": write_random_siglip, "siglip2": write_random_siglip2}
PROMPTS = ["a photo of a dog", "a photo of a House", "art, painting: of a guitar!"]


@pytest.fixture(scope="module", params=WRITERS)
def folder(request, tmp_path_factory):
    return WRITERS[request.param](tmp_path_factory.mktemp(request.param) / request.param, small=True)


@pytest.fixture(scope="module")
def clip(folder):
    return FrozenClip(locate_backbone(folder), CPU)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_the_configuration_says_the_shape_of_every_weight(folder):
    shapes = {name: tuple(weight.shape) for name, weight in SiglipModel.from_pretrained(folder).state_dict().items()}
    assert read_clip_config(folder).weights() == shapes


def test_features_are_those_of_transformers(folder, clip):
    model = SiglipModel.from_pretrained(folder).eval()
    pixels = torch.from_numpy(np.stack([clip.preprocess(noise(50, 40, seed)) for seed in range(3)]))
    ids, mask = clip.tokenize(PROMPTS)
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=pixels)
    assert ids.shape == (3, 64) and bool(mask.all())
    assert clip.feature_dim == 32
    images = torch.nn.functional.normalize(clip.encode_pixels(pixels), dim=-1)
    texts = clip.encode_prompts(PROMPTS)
    torch.testing.assert_close(images, out.image_embeds)
    torch.testing.assert_close(texts, out.text_embeds)
    own = clip.logit_scale * images @ texts.T
    assert clip.logit_scale == pytest.approx(np.exp(4.7), rel=1e-6)
    torch.testing.assert_close(own.softmax(-1), out.logits_per_image.softmax(-1))  # the bias changes nothing


def test_prompts_are_lower_case_and_padded_to_all_positions(folder, clip):
    loud, quiet = clip.tokenize(["A Photo of a DOG"])[0], clip.tokenize(["a photo of a dog"])[0]
    assert loud.equal(quiet)
    tokenizer = clip._tokenizer._tokenizer
    tail = quiet[0, -40:].unique().tolist()
    assert tail == [tokenizer.pad_token_id]
    assert int((quiet == tokenizer.eos_token_id).sum()) >= 1


def test_a_prompt_that_is_too_long_is_cut_off(clip):
    ids, _ = clip.tokenize(["dog " * 100])
    assert ids.shape == (1, 64)


def test_the_first_siglips_leave_out_punctuation(tmp_path):
    clip = FrozenClip(write_random_siglip(tmp_path / "one", small=True), CPU)
    assert clip.tokenize(["a photo, of: a dog!"])[0].equal(clip.tokenize(["a photo of a dog"])[0])


def test_pixels_are_those_of_transformers(folder, clip):
    theirs = SiglipImageProcessorPil.from_pretrained(folder)
    assert clip.preprocessing.center_crop == CenterCrop(32, 32, int(theirs.resample), squash=True)
    for number, (width, height) in enumerate(np.random.default_rng(5).integers(1, 200, (60, 2)).tolist()):
        image = noise(width, height, number)
        assert np.array_equal(clip.preprocess(image), theirs(image, return_tensors="np")["pixel_values"][0])


def test_the_fingerprint_counts_the_tokenizer(folder, copy):
    assert fingerprint(copy) == fingerprint(folder)
    file = next(copy / name for name in ("spiece.model", "tokenizer.json") if (copy / name).exists())
    file.write_bytes(file.read_bytes() + b" ")
    assert fingerprint(copy) != fingerprint(folder)


def edit(folder, part, **changes):
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(changes)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("part", "changes", "told"),
    [
        ("", {"model_type": "siglip2"}, "fixed resolution.*google/siglip2-base-patch16-224"),
        ("vision_config", {"vision_use_head": False}, "vision_use_head is false"),
        ("text_config", {"projection_size": 48}, "text features of width 48 beside image features of width 32"),
        ("text_config", {"vocab_size": 500}, r"token_embedding.weight is \[400, 32\], \[500, 32\] by config.json"),
        ("vision_config", {"image_size": 48}, "takes 48 x 48|position_embedding"),
        ("vision_config", {"patch_size": 64}, "patch_size 64 is more than image_size 32"),
        ("vision_config", {"num_channels": 1}, "num_channels is 1"),
    ],
)
def test_a_folder_whose_parts_do_not_fit_is_refused(copy, part, changes, told):
    edit(copy, part, **changes)
    with pytest.raises(BackboneError, match=told):
        locate_backbone(copy)


def test_a_folder_without_a_tokenizer_is_refused(copy):
    for name in ("spiece.model", "tokenizer.json"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(BackboneError, match=r"no tokenizer .tokenizer.json, or spiece.model"):
        locate_backbone(copy)


def test_without_sentencepiece_the_extra_is_named(tmp_path, monkeypatch):
    folder = write_random_siglip(tmp_path / "one", small=True)
    monkeypatch.setattr("fedclip_plugin.backbone.prompt_tokenizer.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install 'fedclip-plugin\[siglip\]'"):
        FrozenClip(folder, CPU)
