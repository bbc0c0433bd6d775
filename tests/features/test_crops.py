"""Crop once: the pixel cache gives back exactly what CLIP sees, and only what is still true."""

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedclip_edge.files import replacing
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.preprocessing import Normalization, Preprocessing
from fedclip_plugin.data import UnreadableImageError, open_rgb, scan_folder
from fedclip_plugin.data.decoding import decode as decode_module
from fedclip_plugin.data.read_image import read_image
from fedclip_plugin.errors import BackboneError, DataError
from fedclip_plugin.features import FeatureSource
from fedclip_plugin.features.crop_cache import PixelCache

CPU = torch.device("cpu")
SIZES = ((50, 40), (64, 64), (65, 64), (64, 65), (200, 31), (3, 4), (300, 200))


def draw(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = SIZES[seed % len(SIZES)]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    for number in range(8):
        draw(tmp_path / "images" / ("cat" if number % 2 else "dog") / f"{number}.png", number)
    return tmp_path / "images"


def source(tmp_path):
    return FeatureSource("clip-tiny", CPU, "fp32", tmp_path / "cache", batch_size=4, workers=2)


def crop(tmp_path, root, skip=False):
    seen = []
    result = source(tmp_path).pixels(scan_folder(root, "silo", None), skip, seen.append)
    return result, sum(seen)


def everything(result):
    return result.data.batch(np.arange(len(result.data)))


def cache_file(tmp_path):
    (file,) = (tmp_path / "cache").glob("*/pixels/*.safetensors")
    return file


def test_pixels_are_bit_for_bit_what_the_backbone_sees(tmp_path, root):
    images = scan_folder(root, "silo", None)
    clip = FrozenClip(locate_backbone("clip-tiny"), CPU)
    seen = torch.from_numpy(np.stack([clip.preprocess(open_rgb(path)) for path in images.paths()]))
    data = everything(crop(tmp_path, root)[0])
    assert (data.inputs.dtype, tuple(data.inputs.shape)) == (torch.uint8, (8, 3, 64, 64))
    assert torch.equal(clip.preprocessing.normalization()(data.inputs), seen)
    assert torch.equal(data.labels, torch.from_numpy(images.labels))


def test_every_level_is_normalised_as_transformers_does():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    own = CLIPImageProcessorPil()
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, 0)
    told = own.normalize(own.rescale(levels, own.rescale_factor), own.image_mean, own.image_std)
    made = Normalization(own.rescale_factor, torch.tensor(own.image_mean), torch.tensor(own.image_std))
    assert torch.equal(made(torch.from_numpy(levels)[None])[0], torch.from_numpy(told))


def test_a_folder_without_a_processor_is_named(tmp_path):
    shutil.copy(locate_backbone(BUILT_IN) / "config.json", tmp_path)
    with pytest.raises(BackboneError, match=r"image processor .* cannot be used"):
        Preprocessing(tmp_path)


def test_images_are_decoded_once(tmp_path, root):
    first, counted = crop(tmp_path, root)
    second, again = crop(tmp_path, root)
    assert (counted, first.encoded, again, second.encoded) == (8, 8, 0, 0)
    assert torch.equal(everything(first).inputs, everything(second).inputs)


def test_pixels_stay_on_disk_until_they_are_looked_at(tmp_path, root):
    result, _ = crop(tmp_path, root)
    assert str(cache_file(tmp_path)) in Path("/proc/self/maps").read_text()
    part = result.data.subset(np.array([6, 1, 3]))
    assert part.pixels.data_ptr() == result.data.pixels.data_ptr()
    assert torch.equal(part.batch(np.array([2, 0])).inputs, everything(result).inputs[[3, 6]])


def test_only_what_is_new_or_changed_is_decoded(tmp_path, root):
    before, _ = crop(tmp_path, root)
    kept = everything(before).inputs
    (root / "cat" / "1.png").unlink()
    draw(root / "dog" / "new.png", 77)
    draw(root / "dog" / "0.png", 78)
    after, counted = crop(tmp_path, root)
    data = everything(after)
    assert (counted, after.encoded, len(data.labels), len(after.data.pixels)) == (2, 2, 8, 8)
    assert torch.equal(data.inputs[:3], kept[1:4])
    assert not torch.equal(data.inputs[3], kept[4])
    assert torch.equal(data.inputs[4:7], kept[5:])
    assert torch.equal(everything(before).inputs, kept), "who mapped the old file keeps it"


def test_a_part_of_a_set_is_served_from_the_same_file(tmp_path, root):
    whole, _ = crop(tmp_path, root)
    images = scan_folder(root, "silo", None).subset([7, 2])
    part = source(tmp_path).pixels(images, False, lambda count: None)
    assert part.encoded == 0
    assert torch.equal(everything(part).inputs, everything(whole).inputs[[7, 2]])


@pytest.mark.parametrize("harm", ["cut", "levels", "note", "header", "foreign", "empty"])
def test_a_corrupt_cache_is_made_again_with_a_warning(tmp_path, root, harm, caplog):
    first = everything(crop(tmp_path, root)[0])
    file = cache_file(tmp_path)
    good = file.read_bytes()
    flipped = {"levels": 5000, "note": len(good) - 3, "header": 20}.get(harm, 0)
    content = bytearray(good)
    content[flipped] ^= 1
    foreign = b"\x08\0\0\0\0\0\0\0{}      "
    file.write_bytes({"cut": good[:-9], "empty": b"", "foreign": foreign}.get(harm, bytes(content)))
    with caplog.at_level(logging.WARNING):
        second, counted = crop(tmp_path, root)
    assert counted == 8
    assert f"{file} is corrupt" in caplog.text
    assert torch.equal(first.inputs, everything(second).inputs)
    assert file.read_bytes() == good


def test_bad_images_are_the_same_for_pixels_and_features(tmp_path, root):
    (root / "dog" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"silo: 1 of 9 images cannot be read.*bad\.png.*on_bad_image"):
        crop(tmp_path, root)
    pixels, counted = crop(tmp_path, root, skip=True)
    assert counted == 0, "what could be read was kept when the rest was refused"
    features = source(tmp_path).images(scan_folder(root, "silo", None), True, lambda count: None)
    assert pixels.kept == features.kept
    assert torch.equal(pixels.data.labels, features.data.labels)
    assert [fault.reason for fault in pixels.faults] == [fault.reason for fault in features.faults]


def test_a_disks_fault_is_not_held_against_the_file(tmp_path, root, monkeypatch):
    def fail(path, **options):
        if path.name == "0.png":
            raise UnreadableImageError(path, "Input/output error") from OSError(5, "Input/output error")
        return read_image(path)

    monkeypatch.setattr(decode_module, "read_image", fail)
    assert [fault.path.name for fault in crop(tmp_path, root, skip=True)[0].faults] == ["0.png"]
    monkeypatch.setattr(decode_module, "read_image", read_image)
    result, counted = crop(tmp_path, root, skip=True)
    assert (counted, result.faults, len(result.data)) == (1, [], 8)


def test_a_folder_of_bad_images_only_is_refused_each_time(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "x.png").write_bytes(b"nothing")
    for _ in range(2):
        with pytest.raises(DataError, match="none of the 2 images"):
            crop(tmp_path, tmp_path / "images", skip=True)


def test_a_disk_without_room_is_said_before_anything_is_decoded(tmp_path, root, monkeypatch):
    usage = namedtuple("Usage", "total used free")(10**9, 10**9, 8 * 3 * 64 * 64 - 1)
    monkeypatch.setattr("fedclip_plugin.features.cache_parts.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(
        DataError, match=r"silo: 8 images of 64 x 64 pixels.*98 kB in .* where 98 kB are free.*feature_cache"
    ):
        crop(tmp_path, root)
    assert not list((tmp_path / "cache").glob("*/pixels/*"))


def test_a_full_disk_leaves_the_old_file(tmp_path):
    cache = PixelCache(tmp_path)
    path, block = tmp_path / "x.safetensors", (["a"], np.ones((1, 3, 2, 2), np.uint8))
    cache.write(path, 2, [block])

    def fail():
        yield block
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"feature cache .* cannot be written \(No space left on device\): make room"):
        cache.write(path, 2, fail())
    assert list(tmp_path.iterdir()) == [path]
    assert dict(cache.read(path).rows) == {"a": 0}


def test_what_a_killed_process_left_is_removed_after_a_while(tmp_path):
    old, young = (tmp_path / f".x.{name}.tmp" for name in ("old", "young"))
    for left in (old, young):
        left.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    with replacing(tmp_path / "x") as stream:
        stream.write(b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"x", young.name}


def test_two_ranks_may_write_at_once(tmp_path, root):
    threads = [threading.Thread(target=crop, args=(tmp_path, root)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result, counted = crop(tmp_path, root)
    assert (counted, len(result.data)) == (0, 8)
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_a_warm_cache_needs_no_transformers(tmp_path, root):
    """Neither that of pixels nor those of features and prompts."""
    crop(tmp_path, root)
    source(tmp_path).images(scan_folder(root, "silo", None), False, int)
    source(tmp_path).text(("cat", "dog"), "a {}")
    program = f"""
import sys, torch
from pathlib import Path
from fedclip_plugin.data import scan_folder
from fedclip_plugin.features import FeatureSource
source = FeatureSource("clip-tiny", torch.device("cpu"), "fp32", Path({str(tmp_path / "cache")!r}), 4, 2)
source.text(("cat", "dog"), "a {{}}")
images = scan_folder(Path({str(root)!r}), "silo", None)
found = source.pixels(images, False, print), source.images(images, False, print)
print(*(len(one.data) for one in found), "transformers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "8", "False"]


def test_images_exchanged_in_place_are_seen_by_both_caches(tmp_path, root):
    for path in root.rglob("*.png"):
        Image.open(path).resize((30, 30)).save(path.with_suffix(".bmp"))
        path.unlink()
    for number in range(4):
        (root / "cat" / f"{2 * number + 1}.bmp").rename(root / "cat" / f"{2 * number}.bmp")
    for path in root.rglob("*.bmp"):
        os.utime(path, (1.6e9, 1.6e9))
    images = scan_folder(root, "silo", None)
    pixels = everything(source(tmp_path).pixels(images, False, int)).inputs
    features = source(tmp_path).images(images, False, int).data.features
    (root / "cat").rename(root / "other")
    (root / "dog").rename(root / "cat")
    (root / "other").rename(root / "dog")
    assert scan_folder(root, "silo", None).files == images.files
    exchanged = [4, 5, 6, 7, 0, 1, 2, 3]
    result = source(tmp_path).pixels(images, False, int)
    assert torch.equal(everything(result).inputs, pixels[exchanged])
    encoded = source(tmp_path).images(images, False, int)
    assert torch.equal(encoded.data.features, features[exchanged])
    assert (result.encoded, encoded.encoded) == (0, 0), "both contents are known, and which file has which was seen"
