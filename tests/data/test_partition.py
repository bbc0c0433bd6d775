"""partition and split_60_20_20: each image once, the same on every rank, never below the minimum."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fedclip_plugin.data import partition, split_60_20_20
from fedclip_plugin.errors import DataError

SHAPES = [(60, 1, 3), (100, 7, 3), (101, 5, 10), (1000, 65, 20), (12, 2, 12)]


def labels_of(count: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).integers(0, classes, count))


@pytest.mark.parametrize(("count", "classes", "silos"), SHAPES)
@pytest.mark.parametrize(
    ("method", "alpha", "each"),
    [
        ("homo", None, None),
        *(("hetero", alpha, None) for alpha in (0.1, 0.5, 100.0)),
        *(("shards", None, each) for each in (1, 2, 5)),
        *(("quantity", alpha, None) for alpha in (0.5, 100.0)),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_every_image_goes_to_exactly_one_silo(
    count: int, classes: int, silos: int, method: str, alpha: float | None, each: int | None, seed: int
) -> None:
    labels = labels_of(count, classes)
    try:
        parts = partition(labels, silos, method, alpha, 1, seed, classes_per_client=each)
    except DataError:
        possible = silos * each <= count if each else classes > 1 and count > silos
        assert not possible, "only these are near impossible"
        return
    assert len(parts) == silos
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(count))
    assert all(len(part) >= 1 and part.dtype == np.int64 and np.all(np.diff(part) > 0) for part in parts)
    again = partition(labels.copy(), silos, method, alpha, 1, seed, classes_per_client=each)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_homo_sizes_differ_by_at_most_one_and_seeds_differ() -> None:
    labels = labels_of(1000, 7)
    parts = partition(labels, 3, "homo", None, 10, 0)
    assert sorted(map(len, parts)) == [333, 333, 334]
    assert not np.array_equal(parts[0], partition(labels, 3, "homo", None, 10, 1)[0])


@pytest.mark.parametrize("minimum", [1, 50, 120])
def test_hetero_respects_the_minimum(minimum: int) -> None:
    labels = labels_of(600, 7)
    for seed in range(10):
        assert min(map(len, partition(labels, 4, "hetero", 0.5, minimum, seed))) >= minimum


def skew(alpha: float) -> float:
    labels = labels_of(4000, 10)
    parts = partition(labels, 5, "hetero", alpha, 1, 3)
    shares = np.array([np.bincount(labels[part], minlength=10) / len(part) for part in parts])
    return float(np.abs(shares - np.bincount(labels) / len(labels)).sum(axis=1).mean())


def test_small_alpha_is_more_uneven() -> None:
    assert skew(0.1) > 2 * skew(1.0) > 4 * skew(100.0)


def test_very_small_alpha_still_places_every_image() -> None:
    parts = partition(labels_of(300, 30), 3, "hetero", 1e-4, 1, 0)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(300))


def test_global_generator_is_left_alone() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    partition(labels_of(100, 7), 3, "hetero", 0.5, 1, 0)
    split_60_20_20(100, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


REFUSED = {
    "too few": ({"minimum": 40}, r"100 images cannot give each of 3 silos 40"),
    "no silo": ({"silo_count": 0}, "at least one silo"),
    "method": (
        {"method": "dirichlet"},
        "'dirichlet' is not known; choose one of homo, hetero, classes, shards, quantity",
    ),
    "no alpha": ({"alpha": None}, "partition_alpha is None"),
    "zero alpha": ({"alpha": 0.0}, r"partition_alpha is 0\.0"),
    "nan alpha": ({"alpha": float("nan")}, "partition_alpha is nan"),
    "no sizes": ({"method": "quantity", "alpha": None}, "partition_method: quantity needs a finite number above 0"),
    "uneven sizes": (
        {"method": "quantity", "alpha": 0.01, "minimum": 30},
        r"1000 Dirichlet draws .* left a silo with fewer than 30 \(the smallest has \d+\) of the 100 images each time",
    ),
    "more shards than images": (
        {"method": "shards", "classes_per_client": 34},
        r"34 x 3 silos = 102 shards, more than there are images or groups, 100; lower",
    ),
    "no number of shards": ({"method": "shards"}, "classes_per_client is None; partition_method: shards needs 1 or"),
    "more classes than there are": (
        {"method": "classes", "classes_per_client": 8},
        "classes_per_client 8 is more than the 7 classes that have images",
    ),
    "classes of nobody": (
        {"method": "classes", "classes_per_client": 2},
        r"classes_per_client 2 x 3 silos = 6, which leaves 1 of the 7 classes to no silo; raise classes_per_client",
    ),
    "a rare class": (
        {"method": "classes", "classes_per_client": 7, "silo_count": 20, "classes": list("abcdefg")},
        r"gives each of 7 classes to 20 silos or more, and \d have fewer images: a 16, b 8, .* and 2 more; lower",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    arguments = {"silo_count": 3, "method": "hetero", "alpha": 0.5, "minimum": 1, "seed": 0} | changes
    with pytest.raises(DataError, match=message):
        partition(labels_of(100, 7), **arguments)


@pytest.mark.parametrize(("silos", "each", "classes"), [(5, 2, 10), (3, 1, 3), (20, 2, 10), (7, 3, 10), (30, 10, 10)])
def test_each_silo_has_so_many_classes_evenly_assigned(silos: int, each: int, classes: int) -> None:
    labels = labels_of(4000, classes)
    parts = partition(labels, silos, "classes", None, 10, 4, classes_per_client=each)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(4000))
    table = np.stack([np.bincount(labels[part], minlength=classes) for part in parts])
    assert set((table > 0).sum(axis=1)) == {each}
    holders = (table > 0).sum(axis=0)
    assert holders.min() >= 1 and holders.max() - holders.min() <= 1
    if silos * each == classes:
        assert set(holders) == {1}, "disjoint"
    for column in table.T:
        own = column[column > 0]
        assert own.max() - own.min() <= 1, "a class's images are shared evenly"
    other = partition(labels, silos, "classes", None, 10, 5, classes_per_client=each)
    assert any(not np.array_equal(one, two) for one, two in zip(parts, other, strict=True))


def test_shards_are_those_of_fedavg() -> None:
    """McMahan et al.: 100 clients, 200 shards of 300 images of one of 10 digits, two a client."""
    labels = np.repeat(np.arange(10), 600)
    parts = partition(labels, 100, "shards", None, 10, 0, classes_per_client=2)
    assert {len(part) for part in parts} == {60}
    table = np.stack([np.bincount(labels[part], minlength=10) for part in parts])
    assert set(np.unique(table)) == {0, 30, 60}
    assert set((table > 0).sum(axis=1)) == {1, 2}
    assert set(np.bincount(labels[np.concatenate(parts)])) == {600}
    uneven = partition(labels[:5999], 7, "shards", None, 10, 0, classes_per_client=3)
    assert max(map(len, uneven)) - min(map(len, uneven)) <= 3, "shards differ by one image at most"


def test_quantity_skews_sizes_and_leaves_labels_as_they_are() -> None:
    labels = np.repeat(np.arange(4), 5000)
    parts = partition(labels, 8, "quantity", 0.5, 300, 1)
    sizes = np.array(list(map(len, parts)))
    assert sizes.min() >= 300 and sizes.max() > 3 * np.median(sizes)
    for part in parts:
        share = np.bincount(labels[part], minlength=4) / len(part)
        assert np.abs(share - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / len(part))
    even = [len(part) for part in partition(labels, 8, "quantity", 1e6, 300, 1)]
    assert max(even) - min(even) < 100


def test_the_old_methods_give_what_they_always_gave() -> None:
    """The SHA-256 of positions that version 0.1.0 dealt out before there were other methods."""
    labels = np.arange(500) * 7919 % 11
    groups = np.array([f"g{number * 31 % 97}" for number in range(500)])
    digest = hashlib.sha256()
    for method, alpha in (("homo", None), ("hetero", 0.3), ("hetero", 5.0)):
        for own in (None, groups):
            for part in partition(labels, 4, method, alpha, 10, 3, own):
                digest.update(part.tobytes() + b"|")
    assert digest.hexdigest() == "443709d23c62a520a53b3501c9214ba1c882b73917ddf517b47527d593549a14"


def test_minimum_that_no_draw_meets_is_refused() -> None:
    with pytest.raises(DataError, match=r"1000 Dirichlet draws .* raise partition_alpha, or lower min_images"):
        partition(labels_of(100, 1), 3, "hetero", 0.01, 33, 0)


def test_split_is_the_reference_s() -> None:
    split = split_60_20_20(10, 0)
    order = [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]  # np.random.seed(0); l = list(range(10)); np.random.shuffle(l)
    assert split.train.tolist() == order[:6]
    assert split.validation.tolist() == order[6:8]
    assert split.test.tolist() == order[8:]


def test_split_sizes_round_down_and_never_overlap() -> None:
    for count in range(5, 400):
        split = split_60_20_20(count, count)
        parts = (split.train, split.validation, split.test)
        assert [len(part) for part in parts] == [int(count * 0.6), int(count * 0.2), int(count * 0.2)]
        together = np.concatenate(parts)
        assert len(np.unique(together)) == len(together) >= count - 2
        assert min(map(len, parts)) >= 1


def test_split_of_too_few_is_refused() -> None:
    with pytest.raises(DataError, match=r"4 images cannot be split 60/20/20.*at least 5"):
        split_60_20_20(4, 0)


def grouped(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and groups of ``count`` groups of about ``size`` images, mixed."""
    rng = np.random.default_rng(5)
    groups = np.repeat([f"p{number}" for number in range(count)], rng.integers(1, 2 * size, count))
    return rng.integers(0, 4, len(groups)), rng.permutation(groups)


@pytest.mark.parametrize(
    ("method", "alpha"), [("homo", None), ("hetero", 0.5), ("hetero", 10.0), ("shards", None), ("quantity", 2.0)]
)
def test_no_group_is_in_two_silos(method: str, alpha: float | None) -> None:
    labels, groups = grouped(60, 4)
    parts = partition(labels, 3, method, alpha, 10, 1, groups, classes_per_client=2)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(groups)))
    owners = [set(groups[part]) for part in parts]
    assert sum(map(len, owners)) == 60
    assert all(len(own) >= 3 and len(part) >= 10 for own, part in zip(owners, parts, strict=True))
    if method == "homo":
        assert max(map(len, parts)) - min(map(len, parts)) <= 8, "at most the largest group"


def test_too_few_groups_for_the_silos_are_refused() -> None:
    with pytest.raises(DataError, match="shared out among 3 silos, leave one with fewer than 3 groups"):
        partition(np.zeros(80, np.int64), 3, "homo", None, 1, 0, np.repeat(list("abcdefgh"), 10))


def test_classes_keep_groups_of_one_class_whole_and_refuse_others() -> None:
    labels, groups = grouped(60, 4)
    with pytest.raises(DataError, match=r"but \d+ of 60 groups have images of several classes; take hetero or shards"):
        partition(labels, 3, "classes", None, 10, 1, groups, classes_per_client=2)
    labels = np.array([int(group[1:]) % 4 for group in groups])
    parts = partition(labels, 6, "classes", None, 5, 1, groups, classes_per_client=2)
    assert [len(set(labels[part])) for part in parts] == [2] * 6
    assert sum(len(set(groups[part])) for part in parts) == 60
    with pytest.raises(DataError, match="have fewer groups: 0 15, 1 15"):
        partition(labels, 16, "classes", None, 1, 1, groups, classes_per_client=4)


@pytest.mark.parametrize(
    ("method", "alpha"), [("homo", None), ("hetero", 0.5), ("classes", None), ("shards", None), ("quantity", 2.0)]
)
@pytest.mark.parametrize("in_groups", [False, True])
def test_every_silo_gets_some_of_each_split(method: str, alpha: float | None, in_groups: bool) -> None:
    labels, groups = grouped(90, 4)
    if method == "classes":
        labels = np.array([int(group[1:]) % 4 for group in groups])
    names = np.array(["train", "validation", "test"])
    splits = names[[int(group[1:]) % 3 for group in groups]]
    own = groups if in_groups else None
    parts = partition(labels, 3, method, alpha, 10, 1, own, splits, classes_per_client=2)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(groups)))
    assert all(set(splits[part]) == set(names) for part in parts)
    if in_groups:
        assert sum(len(set(groups[part])) for part in parts) == 90


def test_a_split_that_not_every_silo_can_have_is_refused() -> None:
    splits = np.array(["train"] * 50 + ["validation"] * 2 + ["test"] * 20)
    with pytest.raises(DataError, match=r"leave one with none of one split .train, validation, test."):
        partition(np.zeros(72, np.int64), 3, "homo", None, 1, 0, splits=splits)


def test_groups_of_one_image_are_shared_out_by_label_as_images_are() -> None:
    labels = labels_of(200, 5)
    alone = np.array([f"{number:03d}" for number in range(200)])
    plain, own = (partition(labels, 3, "hetero", 0.5, 10, 2, groups) for groups in (None, alone))
    assert all(np.array_equal(a, b) for a, b in zip(plain, own, strict=True))
