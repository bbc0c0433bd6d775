"""Resize and crop by matrix products against PIL: not one level differs; and a clip that resizes on its device."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from fedclip_plugin.backbone import BUILT_IN, exact_resize, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.exact_resize import ExactResize
from fedclip_plugin.data.decoding.center_crop import CenterCrop
from fedclip_plugin.data.decoding.decode import ImageViews
from fedclip_plugin.features.encoding import encode_files

CPU = torch.device("cpu")
SHAPES = [(1, 1), (3, 4), (64, 64), (65, 64), (64, 65), (224, 224), (227, 227), (640, 480), (2000, 3), (3, 2000)]
SHAPES += [(70, 1500), (500, 1000), (500, 1001), (226, 453), (63, 300), (1200, 90), (2500, 1900), (4000, 70)]


def noise(width, height, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return (levels > 127).astype(np.uint8) * 255 if seed % 3 == 0 else levels


@pytest.mark.parametrize("crop", [CenterCrop(64, 64, 3), CenterCrop(224, 224, 3), CenterCrop(80, 64, 3)], ids=str)
def test_levels_are_pils_at_any_size(crop):
    resize = ExactResize(crop, CPU)
    drawn = np.random.default_rng(7).integers(1, 400, (60, 2)).tolist()
    for seed, (width, height) in enumerate([*SHAPES, *drawn]):
        levels = noise(width, height, seed)
        (found,) = resize(torch.from_numpy(levels)[None])
        assert np.array_equal(found.numpy(), crop(Image.fromarray(levels))), (width, height)


def test_images_of_one_size_are_resized_together(monkeypatch):
    crop = CenterCrop(64, 64, 3)
    images = np.stack([noise(100, 90, seed) for seed in range(5)])
    monkeypatch.setattr(exact_resize, "_AT_ONCE", 2 * images[0].size)
    found = ExactResize(crop, CPU)(torch.from_numpy(images))
    assert np.array_equal(found.numpy(), np.stack([crop(Image.fromarray(image)) for image in images]))


@pytest.mark.parametrize("setting", ["high", "medium"])
def test_reduced_precision_of_products_does_not_reach_them(setting):
    crop, levels = CenterCrop(64, 64, 3), noise(300, 200, 1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        (found,) = ExactResize(crop, CPU)(torch.from_numpy(levels)[None])
    finally:
        torch.set_float32_matmul_precision(before)
    assert np.array_equal(found.numpy(), crop(Image.fromarray(levels)))


def test_a_device_that_differs_from_pil_is_not_used(monkeypatch, caplog):
    crop = CenterCrop(64, 64, 3)
    assert ExactResize(crop, CPU).agrees_with_pil()
    assert ExactResize.on(CPU, crop) is None, "PIL is faster"
    monkeypatch.setattr(ExactResize, "agrees_with_pil", lambda self: False)
    with caplog.at_level(logging.WARNING):
        assert ExactResize.on(torch.device("cuda"), crop) is None
    assert "images are resized on the CPU: cuda and Pillow" in caplog.text
    monkeypatch.setattr(ExactResize, "agrees_with_pil", lambda self: True)
    assert ExactResize.on(torch.device("cuda"), crop) is not None
    assert ExactResize.on(torch.device("cuda"), CenterCrop(64, 64, 2)) is None
    assert ExactResize.on(torch.device("cuda"), CenterCrop(80, 64, 3)) is None
    assert ExactResize.on(torch.device("cuda"), None) is None


def test_one_wrong_level_shows(monkeypatch):
    resize = ExactResize(CenterCrop(64, 64, 3), CPU)
    whole = ExactResize._resized

    def wrong(self, images):
        levels = whole(self, images)
        levels[0, 5, 7, 1] ^= 1
        return levels

    monkeypatch.setattr(ExactResize, "_resized", wrong)
    assert not resize.agrees_with_pil()


def test_a_clip_that_resizes_on_its_device_gives_the_same_pixels(tmp_path):
    sizes = [(90, 70), (64, 64), (300, 200), (90, 70), (50, 61), (800, 700), (90, 70)]
    for seed, size in enumerate(sizes):
        Image.fromarray(noise(*size, seed)).save(tmp_path / f"{seed}.png")
    paths = sorted(tmp_path.iterdir())
    clip = FrozenClip(locate_backbone(BUILT_IN), CPU)
    plain, _ = encode_files(clip, paths, 7, 1)
    images = [Image.open(path) for path in paths]
    pixels = [clip.pixels([clip.see((view,))(image)[0] for image in images]) for view in (0, 3)]
    clip._resize = ExactResize(clip.preprocessing.center_crop, CPU)
    assert clip.see((3,)) == ImageViews(clip.preprocessing.center_crop, (3,), 1 << 20)
    seen = [clip.see()(image)[0] for image in images]
    assert {image.shape for image in seen} == {(70, 90, 3), (64, 64, 3), (200, 300, 3), (61, 50, 3)}, "one is cut"
    assert torch.equal(clip.pixels(seen), pixels[0])
    assert torch.equal(clip.pixels([clip.see((3,))(image)[0] for image in images]), pixels[1])
    whole, _ = encode_files(clip, paths, 7, 1)
    assert all(np.array_equal(whole[index], plain[index]) for index in range(7))
