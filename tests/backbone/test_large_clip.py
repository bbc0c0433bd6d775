"""CLIP ViT-L/14 at 336 pixels: another patch, another side, towers of different widths."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks.random_duals import KINDS
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.configs.clip_config import read_clip_config

CPU = torch.device("cpu")
PUBLISHED = {
    "projection_dim": 768,
    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return KINDS["clip_l14_336"](tmp_path_factory.mktemp("large") / "small", True, 0)


def test_the_published_configuration_has_its_parameters(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CLIPConfig(**PUBLISHED).to_dict()))
    config = read_clip_config(tmp_path)
    assert (config.parameters, config.dim, config.side, config.vision.tokens) == (427_944_193, 768, 336, 577)


def test_features_and_pixels_are_those_of_transformers(folder):
    clip, model = FrozenClip(locate_backbone(folder), CPU), CLIPModel.from_pretrained(folder).eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 451, 3), dtype=np.uint8))
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 336, 336)
    assert np.array_equal(clip.preprocess(image), pixels[0].numpy())
    ids, mask = clip.tokenize(["a photo of a dog", "a photo of a house"])
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, pixel_values=pixels)
    torch.testing.assert_close(torch.nn.functional.normalize(clip.encode_pixels(pixels), dim=-1), out.image_embeds)
    torch.testing.assert_close(clip.encode_prompts(["a photo of a dog", "a photo of a house"]), out.text_embeds)
