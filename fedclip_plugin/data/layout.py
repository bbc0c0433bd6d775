"""Which images a rank holds: the layouts ``domains``, ``classes`` and ``silos`` of a recipe.

A rank lists and opens its own folder only. The exception is ``classes``, where one folder is shared out:
there every rank lists all file names (to compute the same partition) and opens only its own files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedclip_plugin.data.image_folders import list_domains, scan_folder
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.partition import partition
from fedclip_plugin.data.silo_config import read_silo_root
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import closest

if TYPE_CHECKING:
    from fedclip_plugin.recipe import Recipe

_PLACE = "{silo}"


def silo_names(recipe: Recipe, root: Path | None = None, domains: Sequence[str] | None = None) -> tuple[str, ...]:
    """Name the silos in the order of their ranks (silo k is rank k + 1).

    Where the recipe does not tell (`Recipe.silo_names`), these are the domains without the target domain.

    Parameters
    ----------
    root
        Data root to use in place of the recipe's (the built-in miniature's).
    domains
        All domains, where they are known without listing a folder (the built-in miniature's).

    Raises
    ------
    DataError
        The names cannot be known here, or there are not ``client_num_in_total`` of them.
    """
    names = recipe.silo_names()
    if names is None:
        found = list_domains(_list_root(recipe, root)) if domains is None else domains
        names = tuple(name for name in found if name != recipe.fedclip_args.target_domain)
    silo_count = recipe.train_args.client_num_in_total
    if len(names) != silo_count:
        raise DataError(
            f"client_num_in_total is {silo_count}, but there are {len(names)} domains besides the "
            f"target: {', '.join(names) or 'none'}. Set client_num_in_total to {len(names)}, or list the "
            "domains, in the order of their ranks, in fedclip_args.domains"
        )
    return names


def silo_image_set(
    recipe: Recipe, silo_index: int, root: Path | None = None, domains: Sequence[str] | None = None
) -> ImageSet:
    """List the images of one silo, at least ``min_images_per_silo``; `root` and `domains` as for `silo_names`.

    Raises
    ------
    DataError
        A folder is missing or not as the layout asks, a class is not in the recipe's list, there are too few
        images, a partition cannot be made, or the silo's own configuration file cannot be used.
    """
    own_root = None if root is not None else read_silo_root(recipe.data_args.data_silo_config, silo_index)
    name = silo_names(recipe, root or own_root, domains)[silo_index]
    if recipe.fedclip_args.data_layout == "classes":
        return _shared_out(recipe, silo_index, name, _data_root(recipe, root or own_root))
    if recipe.fedclip_args.data_layout == "silos" and own_root is not None:
        folder = Path(str(own_root).replace(_PLACE, name))
    else:
        folder = _named_folder(_data_root(recipe, root or own_root), name)
    images = scan_folder(folder, name, recipe.fedclip_args.classes)
    minimum = recipe.fedclip_args.min_images_per_silo
    if len(images) < minimum:
        raise DataError(
            f"{name}: {len(images)} images in {folder}, and a silo needs at least {minimum}; "
            "add images, or lower fedclip_args.min_images_per_silo"
        )
    return images


def target_image_set(recipe: Recipe, root: Path | None = None) -> ImageSet | None:
    """List the images of the target domain, which the server alone reads; None when the recipe names no target.

    It lies where a silo of that name would lie; `root` as for `silo_names`. A folder that is missing or not as the
    layout asks is a DataError.
    """
    target = recipe.fedclip_args.target_domain
    if target is None:
        return None
    folder = _named_folder(_data_root(recipe, root), target)
    return scan_folder(folder, target, recipe.fedclip_args.classes)


def _data_root(recipe: Recipe, root: Path | None) -> Path:
    chosen = root if root is not None else recipe.fedclip_args.data_root
    if chosen is None:
        raise DataError("fedclip_args.data_root is not given, so there are no images to read; set it")
    return chosen


def _list_root(recipe: Recipe, root: Path | None) -> Path:
    if root is None and recipe.fedclip_args.data_root is None:
        raise DataError(
            "without fedclip_args.data_root the domains cannot be listed; "
            "name them, in the order of their ranks, in fedclip_args.domains"
        )
    return _data_root(recipe, root)


def _named_folder(root: Path, name: str) -> Path:
    if _PLACE in str(root):
        return Path(str(root).replace(_PLACE, name))
    folder = root / name
    if not folder.exists():
        there = list_domains(root)
        close = closest(name, there)
        hint = f" (did you mean {close!r}?)" if close else ""
        raise DataError(f"no folder {name!r} in {root}{hint}; it holds: {', '.join(there) or 'no folder'}")
    return folder


def _shared_out(recipe: Recipe, silo_index: int, name: str, root: Path) -> ImageSet:
    whole = scan_folder(root, name, recipe.fedclip_args.classes)
    seed = recipe.data_args.partition_seed
    parts = partition(
        whole.labels,
        recipe.train_args.client_num_in_total,
        recipe.data_args.partition_method or "homo",
        recipe.data_args.partition_alpha,
        recipe.fedclip_args.min_images_per_silo,
        recipe.common_args.random_seed if seed is None else seed,
    )
    told = whole.ignored if silo_index == 0 else ()  # one folder: what is left out is told once
    return replace(whole.subset(parts[silo_index]), ignored=told)
