"""split_images: groups stay whole, a user's own split is kept, and without both it is the reference's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedclip_plugin.data import ImageSet, Split, split_60_20_20, split_images, split_target
from fedclip_plugin.data.splits import divided_groups, part_named, split_groups
from fedclip_plugin.errors import DataError


def image_set(count: int, groups: list[str] | None = None, splits: list[str] | None = None) -> ImageSet:
    files = tuple(f"{index}.png" for index in range(count))
    own = {"groups": groups, "splits": splits}
    arrays = {key: np.array(value, dtype=np.str_) for key, value in own.items() if value is not None}
    return ImageSet("north", Path("/x"), ("a", "b"), files, np.arange(count) % 2, **arrays)


def parts(split: Split) -> list[list[int]]:
    return [split.train.tolist(), split.validation.tolist(), split.test.tolist()]


def test_without_groups_it_is_the_reference_s_split() -> None:
    assert parts(split_images(image_set(99), 3)) == parts(split_60_20_20(99, 3))
    assert split_60_20_20(99, 3).sizes() == {"train": 59, "validation": 19, "test": 19}


def patients(sizes: list[int]) -> np.ndarray:
    names = [f"p{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return np.random.default_rng(1).permutation(np.array(names))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [[1] * 50, [5] * 20, list(range(1, 30)), [40, *[3] * 40]])
def test_groups_stay_whole_and_parts_are_near_60_20_20(sizes: list[int], seed: int) -> None:
    groups = patients(sizes)
    split = split_groups(groups, seed)
    found = parts(split)
    assert sorted(position for part in found for position in part) == list(range(len(groups)))
    owners = [set(groups[part]) for part in found]
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    share = np.array([len(part) for part in found]) / len(groups)
    assert np.abs(share - [0.6, 0.2, 0.2]).max() <= 0.1, share
    assert parts(split_groups(groups.copy(), seed)) == found


def test_another_seed_is_another_split_of_groups() -> None:
    groups = patients([4] * 20)
    assert parts(split_groups(groups, 0)) != parts(split_groups(groups, 1))


@pytest.mark.parametrize("sizes", [[1, 1, 1], [50, 1, 1], [1, 1, 90], [33, 33, 33], [10, 10, 10, 10]])
def test_with_few_groups_no_part_is_empty(sizes: list[int]) -> None:
    for seed in range(10):
        split = split_groups(patients(sizes), seed)
        assert min(split.sizes().values()) >= 1
        assert sum(split.sizes().values()) == sum(sizes)


def test_a_large_group_goes_where_most_room_is() -> None:
    for seed in range(20):
        groups = patients([50, *[1] * 50])
        assert "p0" in groups[split_groups(groups, seed).train]


def test_too_few_groups_are_named() -> None:
    told = r"north: images of 2 groups \(p0, p1\) cannot be split .* needs images of at least 3 groups"
    with pytest.raises(DataError, match=told):
        split_images(image_set(6, ["p0", "p1"] * 3), 0)
    with pytest.raises(DataError, match=r"images of 1 group \(p0\) cannot"):
        split_images(image_set(6, ["p0"] * 6), 0)


def test_an_own_split_is_kept_as_it_is() -> None:
    images = image_set(5, splits=["test", "train", "validation", "train", "test"])
    assert parts(split_images(images, 0)) == parts(split_images(images, 1)) == [[1, 3], [2], [0, 4]]


def test_an_own_split_without_a_part_is_refused() -> None:
    with pytest.raises(DataError, match=r"north: its own split has no validation and no test images.*60/20/20"):
        split_images(image_set(2, splits=["train", "train"]), 0)


def test_a_group_in_two_parts_of_an_own_split_is_refused() -> None:
    images = image_set(4, ["p", "q", "p", "r"], ["train", "validation", "test", "train"])
    with pytest.raises(DataError, match=r"north: group 'p' has images in test and train"):
        split_images(images, 0)


def test_subsets_keep_groups_and_splits() -> None:
    images = image_set(4, ["p", "q", "r", "s"], ["train", "validation", "test", "train"]).subset([3, 0])
    assert images.files == ("3.png", "0.png")
    assert (images.groups.tolist(), images.splits.tolist()) == (["s", "p"], ["train", "train"])


def test_groups_of_several_owners_are_found() -> None:
    groups, owners = np.array(["p", "q", "p", "longer", "q"]), np.array(["north", "s", "a", "s", "s"])
    assert list(divided_groups(groups, owners)) == [("p", ("a", "north"))]


SPELLINGS = {
    **{"Train": "train", "Training": "train", "VAL": "validation", "valid": "validation", "validation": "validation"},
    **{"test": "test", "Testing": "test", "dev": None, "": None},
}


@pytest.mark.parametrize(("name", "part"), SPELLINGS.items())
def test_spellings_of_parts(name: str, part: str | None) -> None:
    assert part_named(name) == part


def test_shots_are_drawn_from_the_training_split_alone() -> None:
    images = image_set(100)
    whole, few, other = split_images(images, 3), split_images(images, 3, shots=7), split_images(images, 4, shots=7)
    assert np.bincount(images.labels[few.train]).tolist() == [7, 7]
    assert parts(few)[1:] == parts(whole)[1:]
    assert few.train.tolist() == [own for own in whole.train.tolist() if own in set(few.train.tolist())], "in order"
    assert set(few.train) != set(other.train)
    assert parts(few) == parts(split_images(images, 3, shots=7))


def test_shots_of_a_split_of_one_s_own_are_not_its_first_images() -> None:
    images = image_set(100, splits=["train"] * 80 + ["validation"] * 10 + ["test"] * 10)
    few = split_images(images, 0, shots=5)
    assert np.bincount(images.labels[few.train]).tolist() == [5, 5]
    assert few.train.max() > 20


def test_more_shots_than_a_class_has_are_refused_with_the_numbers() -> None:
    own = (["train"] * 8 + ["validation", "test"]) * 4
    images = replace(image_set(40, splits=own), labels=np.repeat([0, 1, 1, 1], 10))
    assert split_images(images, 0, shots=8).sizes() == {"train": 16, "validation": 4, "test": 4}
    told = "north: shots is 9, and its training split has fewer images of 1 of its 2 classes: a 8; lower fedclip_args"
    with pytest.raises(DataError, match=told):
        split_images(images, 0, shots=9)


FOUR = {"classes": ("a", "b", "c", "d"), "labels": np.arange(100) % 4}


def test_new_classes_are_in_no_training_and_apart_in_the_test() -> None:
    images = replace(image_set(100), **FOUR)
    whole, split = split_images(images, 3), split_images(images, 3, base_new=True)
    assert split.train.tolist() == [own for own in whole.train.tolist() if own % 4 < 2]
    assert {*split.test.tolist(), *split.new.tolist()} == {*whole.test.tolist()}
    assert (images.labels[split.validation].max(), images.labels[split.new].min()) == (1, 2)
    few = split_images(replace(images, labels=np.where(np.arange(100) < 98, images.labels % 2, 3)), 3, 4, base_new=True)
    assert len(few.train) == 8, "a new class needs no shots"


def test_classes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(DataError, match=r"halves the classes, and 2 are too few \(a, b\): each half needs 2"):
        split_images(image_set(100), 0, base_new=True)
    images = replace(image_set(100), **FOUR, splits=np.repeat(["train", "validation", "test"], [60, 20, 20]))
    labels = np.where(np.arange(100) < 60, images.labels, 3)
    with pytest.raises(DataError, match=r"none of the base classes \(a, b\) in its splits validation, test"):
        split_images(replace(images, labels=labels), 0, base_new=True)


def test_a_target_is_parted_by_classes_in_order() -> None:
    images = replace(image_set(8), classes=FOUR["classes"], labels=np.arange(8) // 2)
    assert split_target(images, base_new=False).test.tolist() == list(range(8))
    split = split_target(images, base_new=True)
    assert (split.test.tolist(), split.new.tolist()) == ([0, 1, 2, 3], [4, 5, 6, 7])
