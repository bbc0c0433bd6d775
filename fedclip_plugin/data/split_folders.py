"""Folders that hold a user's own split: ``train``, ``val`` and ``test``, each with class folders in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedclip_edge.terminal import printable
from fedclip_plugin.data.image_folders import broken_links, find_layout, list_domains, list_entries, scan_folder
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.splits import PARTS, look_like_splits, part_named
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import listed


def holds_splits(folder: Path) -> bool:
    """Return whether a silo's or domain's folder holds a split of its own instead of class folders."""
    return look_like_splits(list_entries(folder)[0]) and find_layout(folder) == "splits"


def scan_images(folder: Path, name: str, classes: Sequence[str] | None = None) -> ImageSet:
    """List ``folder/<class>/<image>``, or ``folder/<split>/<class>/<image>`` with its splits; errors as for both."""
    return scan_splits(folder, name, classes) if holds_splits(folder) else scan_folder(folder, name, classes)


def scan_splits(root: Path, name: str, classes: Sequence[str] | None = None) -> ImageSet:
    """List the images of ``root/<split>/<class>/<image>``, with the split of each.

    The splits are train, validation and test, in that order; class folders may be absent in some.

    Parameters
    ----------
    name
        The silo, for messages and for the result.
    classes
        As for `scan_folder`; None: the class folders of all splits, sorted.

    Raises
    ------
    DataError
        A folder is no split, there are two of one, one of the three is missing, or what `scan_folder` refuses.
    """
    found, loose = list_entries(root)
    for fault in broken_links(root, loose):
        raise DataError(f"{name}: {fault}")
    folders = _folders_of_splits(found, root, name)
    names = tuple(classes or sorted({each for folder in folders.values() for each in list_domains(root / folder)}))
    if classes is None and len(names) < 2:
        raise DataError(
            f"{name}: the splits in {printable(str(root))} have fewer than two class folders: {listed(names)}"
        )
    sets = {part: scan_folder(root / folder, name, names) for part, folder in folders.items()}
    return replace(
        next(iter(sets.values())),
        root=root,
        files=tuple(f"{folders[part]}/{file}" for part, own in sets.items() for file in own.files),
        labels=np.concatenate([own.labels for own in sets.values()]),
        ignored=(*loose, *(f"{folders[part]}/{file}" for part, own in sets.items() for file in own.ignored)),
        splits=np.array([part for part, own in sets.items() for _ in own.files], dtype=np.str_),
    )


def splits_not_domains(root: Path, folders: Sequence[str]) -> str:
    """Say that folders look like splits, and what to do, where they would be taken for domains."""
    return (
        f"the folders in {printable(str(root))} look like splits of one data set, not like domains: {listed(folders)}. "
        "If they are splits, set fedclip_args.data_layout: splits (their images are shared out among silos, each "
        f"silo's share of train, val and test is its split; fedclip check {printable(str(root))} prints the keys). If "
        "they are domains, list them by name in fedclip_args.domains"
    )


def _folders_of_splits(found: Sequence[str], root: Path, name: str) -> dict[str, str]:
    """Return the folder of each of `PARTS`, in their order."""
    by_part = {part: [folder for folder in found if part_named(folder) == part] for part in PARTS}
    place = printable(str(root))
    if other := [folder for folder in found if part_named(folder) is None]:
        raise DataError(
            f"{name}: {place} holds {listed(other)} beside the splits; a split is train, val (valid, validation) or "
            "test. Rename or move it"
        )
    for part, folders in by_part.items():
        if not folders:
            raise DataError(
                f"{name}: {place} has no {part} split, it holds: {listed(found)}. Move some images into "
                f"{part}/<class>/, or put all into <class>/ and let the run split them (60/20/20)"
            )
        if len(folders) > 1:
            raise DataError(f"{name}: {place} has two folders for {part}, {listed(folders)}; put them into one")
    return {part: folders[0] for part, folders in by_part.items()}
