"""The split of a silo's images into train, validation and test: the reference's, by groups, or the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import listed
from fedclip_plugin.recipe.rules.data import LEAST_HALVED

PARTS: tuple[str, ...] = ("train", "validation", "test")
"""The parts of a split, in order."""

_SHOWN = 5  # classes that an error names
_SPELLINGS = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}


def _none() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the images of each part, ``[n]`` int64; no position is in two parts."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    new: NDArray[np.int64] = field(default_factory=_none)  # images of the test that are of new classes (`base_only`)

    def sizes(self) -> dict[str, int]:
        """Return how many images each of `PARTS` has."""
        return {part: len(getattr(self, part)) for part in PARTS}


def part_named(name: str) -> str | None:
    """Return which of `PARTS` a folder or a value names (``Val``, ``valid`` ...), in any case; None when none."""
    lower = name.lower()
    return lower if lower in PARTS else _SPELLINGS.get(lower)


def look_like_splits(folders: Sequence[str]) -> bool:
    """Return whether names of folders are those of splits: at least two of train, val and test, however spelt."""
    return len({part_named(name) for name in folders} - {None}) > 1


def split_images(images: ImageSet, seed: int, shots: int | None = None, base_new: bool = False) -> Split:
    """Split an image set into train, validation and test.

    The images' own `ImageSet.splits` where they have them, in the order of the set; else by whole groups where there
    are `ImageSet.groups` (`split_groups`); else as `split_60_20_20`.

    Parameters
    ----------
    shots
        Images of each class that the training split keeps, drawn from it by `seed` (`few_shots`); None: all.
    base_new
        Take images of new classes out of it (`base_only`), before shots are drawn.

    Raises
    ------
    DataError
        A part would be empty, a group has images in two parts, the training split has fewer than `shots` images of
        a class, or there are too few classes; the message names the silo.
    """
    require_whole_groups(images)
    try:
        if images.splits is not None:
            found = _own(images.splits)
        elif images.groups is not None:
            found = split_groups(images.groups, seed)
        else:
            found = split_60_20_20(len(images), seed)
        found = base_only(images, found) if base_new else found
        return found if shots is None else replace(found, train=few_shots(images, found.train, shots, seed))
    except DataError as error:
        raise DataError(f"{images.name}: {error}") from error


def split_target(images: ImageSet, base_new: bool) -> Split:
    """Return the split of a target domain, all of which is tested on, in order; with `base_new` as `base_only`.

    Raises
    ------
    DataError
        It has no image of the base classes, or none of the new ones; names it.
    """
    whole = Split(_none(), _none(), np.arange(len(images)))
    if not base_new:
        return whole
    base = images.labels < base_count(images.classes)
    found = replace(whole, test=np.flatnonzero(base), new=np.flatnonzero(~base))
    if not len(found.test):
        raise DataError(f"{images.name}: {_no_image('base', images.classes)}")
    require_new([found], images.classes, images.name)
    return found


def base_count(classes: Sequence[str]) -> int:
    """Return how many classes are base classes: the first half of them, rounded up; the others are new.

    Raises
    ------
    DataError
        There are too few for two in each half.
    """
    if len(classes) < LEAST_HALVED:
        raise DataError(
            f"fedclip_args.class_split: base_new halves the classes, and {len(classes)} are too few ({listed(classes)})"
            f": each half needs 2 to tell apart, {LEAST_HALVED} in all; add classes, or leave class_split out"
        )
    return -(-len(classes) // 2)


def base_only(images: ImageSet, split: Split) -> Split:
    """Keep of a split the images of base classes; those of new classes in its test move to `Split.new`.

    Raises
    ------
    DataError
        A part would be empty; names the classes.
    """
    base = images.labels < base_count(images.classes)
    parts = {part: getattr(split, part) for part in PARTS}
    kept = {part: own[base[own]] for part, own in parts.items()}
    if lacking := [part for part, own in kept.items() if not len(own)]:
        raise DataError(f"{_no_image('base', images.classes)} in its split{'s' * (len(lacking) > 1)} {listed(lacking)}")
    return Split(**kept, new=split.test[~base[split.test]])


def require_new(splits: Iterable[Split], classes: Sequence[str], name: str) -> None:
    """Refuse, as a DataError that names whose they are, splits without a test image of a new class."""
    if not any(len(own.new) for own in splits):
        raise DataError(f"{name}: {_no_image('new', classes)} among its test images")


def _no_image(half: str, classes: Sequence[str]) -> str:
    count = base_count(classes)
    own = classes[:count] if half == "base" else classes[count:]
    return (
        f"fedclip_args.class_split: base_new needs images of both halves of the classes: add images, or leave it out; "
        f"there is none of the {half} classes ({listed(own, _SHOWN)})"
    )


def few_shots(images: ImageSet, train: NDArray[np.int64], shots: int, seed: int) -> NDArray[np.int64]:
    """Draw so many images of each class from a training split, in its order.

    Parameters
    ----------
    train
        Positions of its images, ``[n]``.

    Raises
    ------
    DataError
        It has fewer images of a class; names the classes, or the first few.
    """
    found, index, counts = np.unique(images.labels[train], return_inverse=True, return_counts=True)
    if few := [f"{images.classes[own]} {count}" for own, count in zip(found, counts, strict=True) if count < shots]:
        raise DataError(
            f"shots is {shots}, and its training split has fewer images of {len(few)} of its {len(found)} classes: "
            f"{listed(few, _SHOWN)}; lower fedclip_args.shots, or give the silo more images"
        )
    order = np.random.default_rng(seed).permutation(len(train))
    chosen = [order[index[order] == label][:shots] for label in range(len(found))]
    kept: NDArray[np.int64] = train[np.sort(np.concatenate(chosen))]
    return kept


def split_60_20_20(count: int, seed: int) -> Split:
    """Split positions 0 to `count` - 1 as the reference does; each part is in shuffled order.

    One shuffle by numpy's legacy generator, then the first ``int(0.6 n)``, the next ``int(0.2 n)`` and the next
    ``int(0.2 n)``. The up to two positions left over by rounding down are dropped, as the reference drops them
    (microsoft/PersonalizedFL, folder ``fedclip``, with `seed` 0).

    Raises
    ------
    DataError
        Fewer than 5 images: a part would be empty.
    """
    if count < 5:
        raise DataError(f"{count} images cannot be split 60/20/20: a silo needs at least 5 images; add images")
    order, sizes = _shuffled(count, seed).copy(), sizes_60_20_20(count)
    ends = np.cumsum([sizes["train"], sizes["validation"], sizes["test"]])
    train, validation, test, _ = np.split(order, ends)
    return Split(train, validation, test)


@lru_cache(maxsize=256)
def _shuffled(count: int, seed: int) -> NDArray[np.int64]:
    """Return the positions in the split's order; the many clients of a simulation have few different counts."""
    order = np.arange(count, dtype=np.int64)
    np.random.RandomState(seed).shuffle(order)
    return order


def sizes_60_20_20(count: int) -> dict[str, int]:
    """Return how many of ``count`` images are in ``train``, ``validation`` and ``test``."""
    part = int(count * 0.2)
    return {"train": int(count * 0.6), "validation": part, "test": part}


def split_groups(groups: NDArray[np.str_], seed: int) -> Split:
    """Split positions so that no group is in two parts, near 60/20/20 by number of images; none is dropped.

    The groups, in the order in which they first appear, are shuffled by numpy's legacy generator. Each then goes,
    whole, to the part that lacks the largest share of its images among those with room for the group; where none has
    room, to the one that lacks most images. The last groups go to parts that are still empty. Within a part, images are
    in the order of their groups.

    Parameters
    ----------
    groups
        Group of each image, ``[N]``.

    Raises
    ------
    DataError
        Fewer than 3 groups: a part would be empty; names them.
    """
    members = members_of(groups)
    if len(members) < len(PARTS):
        raise DataError(
            f"images of {len(members)} group{'s' * (len(members) != 1)} ({listed(members)}) cannot be split into "
            "train, validation and test, as a group stays whole: a silo needs images of at least 3 groups; add images"
        )
    wanted = {part: len(groups) * share for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True)}
    lacking, chosen = dict(wanted), {part: list[NDArray[np.int64]]() for part in PARTS}
    order = np.array(list(members), dtype=object)
    np.random.RandomState(seed).shuffle(order)
    for number, group in enumerate(order):
        size = len(members[group])
        empty = [part for part in PARTS if not chosen[part]]
        open_parts = empty if len(order) - number <= len(empty) else PARTS
        roomy = {part: lacking[part] / wanted[part] for part in open_parts if lacking[part] >= size}
        needs = roomy or {part: lacking[part] for part in open_parts}
        part = max(needs, key=needs.__getitem__)
        chosen[part].append(members[group])
        lacking[part] -= size
    return Split(*(np.concatenate(chosen[part]) for part in PARTS))


def members_of(groups: NDArray[np.str_]) -> dict[str, NDArray[np.int64]]:
    """Return the positions of each group's images, rising; groups in the order in which they first appear."""
    names, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    positions = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    return {str(names[i]): positions[i].astype(np.int64) for i in np.argsort(first)}


def divided_groups(groups: Iterable[str], owners: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each group whose images have more than one owner (a split, a silo), and its owners, sorted."""
    found: dict[str, set[str]] = {}
    for group, owner in zip(map(str, groups), map(str, owners), strict=True):
        found.setdefault(group, set()).add(owner)
    yield from ((group, tuple(sorted(own))) for group, own in sorted(found.items()) if len(own) > 1)


def _own(splits: NDArray[np.str_]) -> Split:
    parts = [np.flatnonzero(splits == part).astype(np.int64) for part in PARTS]
    if lacking := [part for part, found in zip(PARTS, parts, strict=True) if not len(found)]:
        raise DataError(
            f"its own split has no {' and no '.join(lacking)} images, and all of train, validation and test are "
            "needed: give some images that split, or leave the split to the run (60/20/20)"
        )
    return Split(*parts)


def require_whole_groups(images: ImageSet) -> None:
    """Refuse, as a DataError, an own split in which a group has images in two parts."""
    if images.groups is None or images.splits is None:
        return
    for name, parts in divided_groups(images.groups, images.splits):
        raise DataError(
            f"{images.name}: group {name!r} has images in {' and '.join(parts)}, so that the test would know it from "
            "training: move them into one of the splits, or leave fedclip_args.group_column or split_column out"
        )
