"""Resize, crop and normalisation against transformers' own processor, bit for bit."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.preprocessing import Normalization, Preprocessing
from fedclip_plugin.data import open_rgb
from fedclip_plugin.data.decoding.center_crop import CenterCrop

ORIENTATION = 0x0112


def noise(width, height, channels=3, seed=0, kind=np.uint8):
    high = np.iinfo(kind).max + 1
    levels = np.random.default_rng(seed).integers(0, high, (height, width, channels), dtype=kind)
    return levels if channels > 1 else levels[:, :, 0]


def rgb(width=90, height=61, seed=0):
    return Image.fromarray(noise(width, height, seed=seed))


def turned(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return {"exif": exif}


FILES = {
    "png": (rgb(), "x.png", {}),
    "jpeg": (rgb(227, 227), "x.jpg", {"quality": 90}),
    "jpeg 4:4:4": (rgb(100, 75), "x.jpg", {"subsampling": 0}),
    "progressive jpeg": (rgb(75, 100), "x.jpg", {"progressive": True}),
    "cmyk jpeg": (rgb().convert("CMYK"), "x.jpg", {}),
    "grey": (Image.fromarray(noise(80, 131, 1)), "x.png", {}),
    "grey jpeg": (Image.fromarray(noise(80, 131, 1)), "x.jpg", {}),
    "palette": (rgb().quantize(32), "x.png", {}),
    "transparent": (Image.fromarray(noise(70, 90, 4)), "x.png", {}),
    "16-bit": (Image.fromarray(noise(91, 70, 1, kind=np.uint16)), "x.png", {}),
    "16-bit tiff": (Image.fromarray(noise(64, 70, 1, kind=np.uint16)), "x.tiff", {}),
    "on its side": (rgb(), "x.jpg", turned(6)),
    "mirrored": (rgb(), "x.png", turned(2)),
    "one pixel": (rgb(1, 1), "x.png", {}),
    "three by four": (rgb(3, 4), "x.png", {}),
    "of the tower's size": (rgb(64, 64), "x.png", {}),
    "a column more": (rgb(65, 64), "x.png", {}),
    "very wide": (rgb(2000, 3), "x.png", {}),
    "very tall": (rgb(70, 1500), "x.png", {}),
    "large": (rgb(1200, 900), "x.bmp", {}),
}
"""Each an image, the file that it is written to, and how."""


@pytest.fixture(scope="module", params=["clip-tiny", "openai"])
def processors(request, tmp_path_factory):
    """The product's and transformers' own: of clip-tiny, and one of the first CLIPs' floats in the same size."""
    if request.param == "clip-tiny":
        folder = locate_backbone(BUILT_IN)
    else:
        folder = tmp_path_factory.mktemp("clip")
        CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=64).save_pretrained(folder)
        (folder / "config.json").write_bytes((locate_backbone(BUILT_IN) / "config.json").read_bytes())
    return Preprocessing(folder), CLIPImageProcessorPil.from_pretrained(folder)


@pytest.mark.parametrize(("image", "name", "options"), FILES.values(), ids=FILES)
def test_pixels_are_those_of_transformers(processors, tmp_path, image, name, options):
    own, theirs = processors
    image.save(tmp_path / name, **options)
    read = open_rgb(tmp_path / name)
    wanted = theirs(read, return_tensors="np")["pixel_values"][0]
    seen = own.preprocess(read)
    assert (seen.dtype, seen.tobytes()) == (wanted.dtype, wanted.tobytes())
    levels = theirs(read, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    assert np.array_equal(own.crop(read), levels)
    assert np.array_equal(own.levels(read).transpose(2, 0, 1), levels)


def test_sizes_around_those_of_the_tower_are_resized_alike(processors):
    own, theirs = processors
    for number, (width, height) in enumerate(np.random.default_rng(5).integers(1, 200, (150, 2)).tolist()):
        image = rgb(width, height, seed=number)
        assert np.array_equal(own.preprocess(image), theirs(image, return_tensors="np")["pixel_values"][0])


@pytest.mark.parametrize(
    "changes",
    [
        {"resample": 2},
        {"size": {"shortest_edge": 70}},
        {"size": {"height": 64, "width": 64}},
        {"size": {"shortest_edge": 50}},
        {"do_resize": False},
        {"do_normalize": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"image_mean": [0.1, 0.7, 0.3], "image_std": [0.3, 0.1, 3.0]},
    ],
    ids=str,
)
def test_other_settings_of_a_processor_mean_what_they_mean_to_transformers(tmp_path, changes):
    CLIPImageProcessorPil(**({"size": {"shortest_edge": 64}, "crop_size": 64} | changes)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((locate_backbone(BUILT_IN) / "config.json").read_bytes())
    own, theirs = Preprocessing(tmp_path), CLIPImageProcessorPil.from_pretrained(tmp_path)
    for image in (rgb(), rgb(300, 200, seed=1), rgb(10, 7, seed=2)):
        assert np.array_equal(own.preprocess(image), theirs(image, return_tensors="np")["pixel_values"][0])


def test_what_pil_alone_cannot_do_is_left_to_transformers():
    plain = CLIPImageProcessorPil().to_dict()
    assert CenterCrop.of(plain) == CenterCrop(224, 224, 3)
    assert CenterCrop.of(plain | {"size": {"shortest_edge": 256}}) == CenterCrop(256, 224, 3)
    others = [{"do_pad": True}, {"do_resize": False}, {"do_center_crop": False}, {"size": {"height": 9, "width": 9}}]
    others += [{"size": {"shortest_edge": 200}}, {"size": {"shortest_edge": 224, "longest_edge": 300}}]
    others += [{"crop_size": {"height": 224, "width": 200}}]
    assert [CenterCrop.of(plain | other) for other in others] == [None] * len(others)


def test_floats_of_earlier_images_are_written_over_where_there_is_room():
    normalization = Normalization(1 / 255, torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4]))
    many, few = ([noise(9, 9, seed=seed + count) for seed in range(count)] for count in (4, 2))
    room = normalization.of_images(many)
    assert room.is_contiguous()
    for images in (few, many):
        seen = normalization.of_images(images, room)
        assert seen.data_ptr() == room.data_ptr()
        levels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        assert torch.equal(seen, normalization(levels))
    assert normalization.of_images(many, room[:2]).data_ptr() != room.data_ptr()
