"""Augmented views: what they are, that they are encoded once, and that an epoch draws among them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fedclip_plugin.data import scan_folder, split_60_20_20
from fedclip_plugin.data.decoding.views import augment
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
    plain, *views = (fresh.images(images, False, done.append, view).data.features for view in range(3))
    assert sum(done) == 36
    assert not any(torch.equal(plain, view) for view in views)
    assert not torch.equal(*views)
    warm = source(tmp_path)
    assert warm.count_missing(images, views=2) == 0
    assert torch.equal(warm.images(images, False, done.append, 2).data.features, views[1])
    assert not warm.loaded
    clip = fresh.clip()
    pixels = torch.from_numpy(clip.preprocess(augment(Image.open(images.paths()[3]).convert("RGB"), 2)))[None]
    torch.testing.assert_close(clip.encode_pixels(pixels)[0], views[1][3], atol=1e-5, rtol=1e-4)


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
