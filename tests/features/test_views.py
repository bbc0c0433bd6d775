"""Augmented views: what they are, that they are encoded once, and that an epoch draws among them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fedclip_plugin.data import open_rgb, scan_folder, split_60_20_20
from fedclip_plugin.data.decoding import decode as decode_module
from fedclip_plugin.data.decoding.center_crop import CenterCrop
from fedclip_plugin.data.decoding.decode import ImageViews, decode
from fedclip_plugin.data.decoding.views import augment
from fedclip_plugin.data.read_image import read_image
from fedclip_plugin.errors import RecipeError
from fedclip_plugin.features import FeatureSet, FeatureSource
from fedclip_plugin.federated.roles.trainer import batches
from fedclip_plugin.federated.startup.preparation import split
from fedclip_plugin.recipe import find_recipe, load_recipe

RECIPE = find_recipe("miniature/clip_tiny_fedclip")


def picture(seed=0, size=(64, 48)):
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def test_a_view_is_the_same_for_the_same_pixels_and_another_for_another_number():
    first, again, second = augment(picture(), 1), augment(picture().copy(), 1), augment(picture(), 2)
    assert first.size == picture().size
    assert first.mode == "RGB"
    assert np.array_equal(np.asarray(first), np.asarray(again))
    assert not np.array_equal(np.asarray(first), np.asarray(second))
    assert not np.array_equal(np.asarray(first), np.asarray(picture()))


def test_some_views_are_grey_and_some_are_not():
    spreads = [np.ptp(np.asarray(augment(picture(), view)).astype(int), axis=-1).max() for view in range(1, 41)]
    grey = sum(spread == 0 for spread in spreads)
    assert 2 <= grey <= 16, "probability 0.2 of 40 views"


@pytest.fixture
def images(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(6):
            picture(number + 10 * (label == "dog"), (64, 64)).save(tmp_path / "images" / label / f"{number}.png")
    return scan_folder(tmp_path / "images", "silo", None)


def source(tmp_path):
    return FeatureSource("clip-tiny", torch.device("cpu"), "fp32", tmp_path / "cache", 8, 2)


def test_each_view_is_encoded_once_and_cached_apart(images, tmp_path):
    done = []
    fresh = source(tmp_path)
    assert fresh.count_missing(images, views=2) == 36
    data = fresh.images(images, False, done.append, 2).data
    plain, views = data.features, list(data.views.unbind(1))
    assert (sum(done), len(views)) == (36, 2)
    assert not any(torch.equal(plain, view) for view in views)
    assert not torch.equal(*views)
    warm = source(tmp_path)
    assert warm.count_missing(images, views=2) == 0
    again = warm.images(images, False, done.append, 2)
    assert torch.equal(again.data.views, data.views) and again.encoded == 0
    assert not warm.loaded
    clip = fresh.clip()
    pixels = torch.from_numpy(clip.preprocess(augment(Image.open(images.paths()[3]).convert("RGB"), 2)))[None]
    torch.testing.assert_close(clip.encode_pixels(pixels)[0], views[1][3], atol=1e-5, rtol=1e-4)


def stored_in_many_ways(folder):
    """Write pictures as files hold them: modes, alpha, orientation, CMYK."""
    upright, turned = picture(3, (90, 61)), Image.Exif()
    turned[0x0112] = 6
    clear = upright.convert("RGBA")
    clear.putalpha(picture(4, (90, 61)).convert("L"))
    upright.save(folder / "rgb.jpg")
    upright.save(folder / "turned.jpg", exif=turned)
    upright.convert("CMYK").save(folder / "cmyk.jpg")
    upright.convert("L").save(folder / "grey.jpg")
    upright.convert("L").save(folder / "grey.png")
    upright.convert("P").save(folder / "palette.png", transparency=3)
    clear.save(folder / "alpha.png")
    clear.convert("LA").save(folder / "grey_alpha.png")
    upright.convert("1").save(folder / "two_levels.bmp")
    return sorted(folder.iterdir())


def test_views_of_one_decoding_are_those_of_a_decoding_each(tmp_path):
    crop, paths = CenterCrop(32, 32, 3), stored_in_many_ways(tmp_path)
    for path in paths:
        levels, _ = decode(ImageViews(crop, (0, 1, 2, 3)), path)
        alone = [crop(open_rgb(path)), *(crop(augment(open_rgb(path), view)) for view in (1, 2, 3))]
        assert all(map(np.array_equal, levels, alone)) and len(levels) == 4, path.name
    assert len(paths) == 9


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were decoded."""
    names = []

    def _read(path, **options):
        names.append(path.name)
        return read_image(path, **options)

    monkeypatch.setattr(decode_module, "read_image", _read)
    return names


def test_a_file_is_decoded_once_for_all_that_is_lacking_of_it(images, tmp_path, opened):
    whole = source(tmp_path / "cold").images(images, False, views=2)
    assert (len(opened), whole.encoded) == (12, 36)
    source(tmp_path).images(images, False)
    picture(99).save(images.root / "cat" / "new.png")
    more = scan_folder(images.root, "silo", None)
    opened.clear()
    grown = source(tmp_path).images(more, False, views=2)
    assert (len(opened), len(set(opened)), grown.encoded) == (13, 7, 27), "two views of the old ones, all of the new"
    old = [more.files.index(name) for name in images.files]
    torch.testing.assert_close(grown.data.views[old], whole.data.views, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(grown.data.features[old], whole.data.features, atol=1e-5, rtol=1e-4)


def test_more_views_than_a_batch_has_images(images, tmp_path):
    small = FeatureSource("clip-tiny", torch.device("cpu"), "fp32", tmp_path / "small", 2, 1)
    done = []
    found, usual = small.images(images, False, done.append, views=3), source(tmp_path).images(images, False, views=3)
    assert (found.encoded, sum(done)) == (48, 48)
    torch.testing.assert_close(found.data.views, usual.data.views, atol=1e-5, rtol=1e-4)


def test_an_unreadable_file_is_told_once_and_has_no_views(images, tmp_path):
    (images.root / "cat" / "bad.png").write_bytes(b"nothing")
    found = source(tmp_path).images(scan_folder(images.root, "silo", None), True, views=2)
    assert (len(found.faults), tuple(found.data.views.shape[:2])) == (1, (12, 2))


def test_what_was_cropped_is_encoded_without_decoding_it_again(images, tmp_path, opened):
    """The bad file is the last one, so that batches are of the same images: other ones may have other last bits."""
    (images.root / "dog" / "bad.png").write_bytes(b"nothing")
    images = scan_folder(images.root, "silo", None)
    own = source(tmp_path)
    crops = own.pixels(images, True)
    found = own.images(images, True, crops=crops)
    assert (len(opened), found.encoded, found.kept, len(found.faults)) == (13, 12, crops.kept, 1)
    assert torch.equal(found.data.features, source(tmp_path / "other").images(images, True).data.features)
    assert len(opened) == 26


def numbered(count=50, views=3):
    """A set whose features tell image (tens) and view (units)."""
    images = 10.0 * torch.arange(count)
    seen = images[:, None] + torch.arange(1, views + 1)
    return FeatureSet(images[:, None], torch.arange(count) % 3, views=seen[..., None])


def test_an_epoch_sees_every_image_once_itself_or_one_of_its_views():
    rng, choices = np.random.default_rng(0), []
    for _ in range(20):
        seen = torch.cat([batch.inputs for batch in batches(numbered(), 8, 1, rng)]).flatten()
        assert sorted((seen // 10).tolist()) == list(range(50))
        choices += (seen % 10).tolist()
    counts = np.bincount(np.array(choices, dtype=int), minlength=4)
    assert counts.min() > 0.8 * 250
    assert len(counts) == 4


def test_without_views_the_order_of_batches_is_what_it_always_was():
    data = replace(numbered(), views=None)
    order = np.random.default_rng(3).permutation(50)
    seen = torch.cat([batch.inputs for batch in batches(data, 8, 1, np.random.default_rng(3))]).flatten()
    assert seen.tolist() == (10.0 * order).tolist()


def test_only_the_training_split_keeps_views_and_its_own():
    parts = split(numbered(), split_60_20_20(len(numbered()), 1))
    assert parts.validation.views is None
    assert parts.test.views is None
    assert torch.equal(parts.train.views[:, :, 0] // 10, (parts.train.features // 10).expand(-1, 3))


def test_methods_on_pixels_have_no_views():
    with pytest.raises(RecipeError, match=r"augmented_views = 2: only for methods on features"):
        load_recipe(RECIPE, ["fedclip_args.method=full", "fedclip_args.augmented_views=2"])


def test_a_recipe_without_views_has_the_digest_that_it_had_before_there_were_any():
    paper = find_recipe("miniature/clip_tiny_fedclip_paper")
    assert load_recipe(paper).digest() == load_recipe(paper, ["fedclip_args.augmented_views=0"]).digest()
    assert load_recipe(paper).digest() != load_recipe(paper, ["fedclip_args.augmented_views=1"]).digest()
