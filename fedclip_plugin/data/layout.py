"""Which images a rank holds: the layouts of a recipe, in folders and lists.

A rank lists and opens its own folder only. The exceptions are one folder that is shared out (there every rank lists all
file names, to compute the same partition), and one list for all silos; each rank opens only its own files of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.data.image_folders import list_domains, scan_folder
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.lists.image_list import ImageList
from fedclip_plugin.data.lists.list_file import Columns, in_silo
from fedclip_plugin.data.partition import partition
from fedclip_plugin.data.silo_config import SiloPlace, read_silo_place
from fedclip_plugin.data.split_folders import scan_images, scan_splits, splits_not_domains
from fedclip_plugin.data.splits import look_like_splits, require_whole_groups
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import did_you_mean

if TYPE_CHECKING:
    from fedclip_plugin.recipe import Recipe

_PLACE = "{silo}"


def silo_names(recipe: Recipe, root: Path | None = None, domains: Sequence[str] | None = None) -> tuple[str, ...]:
    """Name the silos in the order of their ranks (silo k is rank k + 1).

    Where the recipe does not tell (`Recipe.silo_names`), these are the domains, or a list's silos, without the target.

    Parameters
    ----------
    root
        Data root to use in place of the recipe's (the built-in miniature's).
    domains
        All domains, where they are known without listing a folder (the built-in miniature's).

    Raises
    ------
    DataError
        The names cannot be known here, there are not ``client_num_in_total`` of them, or folders that would be domains
        look like splits.
    """
    return _silo_names(recipe, SiloPlace(data_root=root), domains)


def _silo_names(recipe: Recipe, own: SiloPlace, domains: Sequence[str] | None = None) -> tuple[str, ...]:
    names, what = recipe.silo_names(), "domains"
    if names is None:
        if recipe.fedclip_args.data_layout == "list":
            found, what = _list(recipe, own, "").silos(), "silos"
        else:
            found = _listed_domains(recipe, own.data_root) if domains is None else tuple(domains)
        names = tuple(name for name in found if name != recipe.fedclip_args.target_domain)
    silo_count = recipe.train_args.client_num_in_total
    if len(names) != silo_count:
        raise DataError(
            f"client_num_in_total is {silo_count}, but there are {len(names)} {what} besides the "
            f"target: {', '.join(names) or 'none'}. Set client_num_in_total to {len(names)}, or list the "
            f"{what}, in the order of their ranks, in fedclip_args.{what}"
        )
    return names


def domain_image_sets(recipe: Recipe, root: Path | None = None, domains: Sequence[str] | None = None) -> list[ImageSet]:
    """List the images of every domain but the target, in order; parameters and errors as for `silo_names`.

    Their number need not be ``client_num_in_total``: a simulation shares each out among ``silos_per_domain`` clients.
    """
    named, place = recipe.silo_names(), SiloPlace(data_root=root)
    found = named or (_listed_domains(recipe, root) if domains is None else tuple(domains))
    names = [name for name in found if name != recipe.fedclip_args.target_domain]
    return [scan_images(_folder(recipe, name, place), name, recipe.fedclip_args.classes) for name in names]


def whole_image_set(recipe: Recipe, name: str) -> ImageSet:
    """List all images of the one folder or list that is shared out, as a set of that name; errors as `scan_images`."""
    return _whole(recipe, name, SiloPlace())


def silo_image_set(
    recipe: Recipe, silo_index: int, root: Path | None = None, domains: Sequence[str] | None = None
) -> ImageSet:
    """List the images of one silo, at least ``min_images_per_silo``; `root` and `domains` as for `silo_names`.

    Raises
    ------
    DataError
        A folder or list is missing or not as the layout asks, a class is not in the recipe's list, there are too few
        images, a partition cannot be made, or the silo's own configuration file cannot be used.
    """
    own = _own_place(recipe, silo_index, root)
    name = _silo_names(recipe, own, domains)[silo_index]
    if recipe.shares_out():
        return _shared_out(recipe, silo_index, _whole(recipe, name, own))
    if recipe.fedclip_args.data_layout == "list":
        images, where = _listed(recipe, name, own)
    else:
        where = _folder(recipe, name, own, is_own=root is None)
        images = scan_images(where, name, recipe.fedclip_args.classes)
    minimum = recipe.fedclip_args.min_images_per_silo
    if len(images) < minimum:
        raise DataError(
            f"{name}: {len(images)} images in {where}, and a silo needs at least {minimum}; "
            "add images, or lower fedclip_args.min_images_per_silo"
        )
    return images


def target_image_set(recipe: Recipe, root: Path | None = None) -> ImageSet | None:
    """List the images of the target domain, which the server alone reads; None when the recipe names no target.

    It lies where a silo of that name would lie; `root` as for `silo_names`. A folder or list that is missing or not as
    the layout asks is a DataError.
    """
    target = recipe.fedclip_args.target_domain
    if target is None:
        return None
    place = SiloPlace(data_root=root)
    if recipe.fedclip_args.data_layout == "list":
        return _listed(recipe, target, place)[0]
    return scan_images(_folder(recipe, target, place), target, recipe.fedclip_args.classes)


def _own_place(recipe: Recipe, silo_index: int, root: Path | None) -> SiloPlace:
    if root is not None:
        return SiloPlace(data_root=root)
    own = read_silo_place(recipe.data_args.data_silo_config, silo_index)
    layout = recipe.fedclip_args.data_layout
    if own.data_list is not None and layout != "list":
        raise DataError(
            f"a silo's own file gives fedclip_args.data_list, which is only for data_layout: list, not {layout}"
        )
    if own.data_list is None and recipe.data_args.data_silo_config and layout == "list":
        settings = recipe.fedclip_args
        if settings.data_list is None or not (settings.silo_column or _PLACE in str(settings.data_list)):
            raise DataError(
                f"{recipe.data_args.data_silo_config[silo_index]} gives no list of its silo: give "
                "fedclip_args.data_list there, or one for all in the recipe, with {silo} in it or with "
                "fedclip_args.silo_column"
            )
    return own


def _listed_domains(recipe: Recipe, root: Path | None) -> tuple[str, ...]:
    if root is None and recipe.fedclip_args.data_root is None:
        raise DataError(
            "without fedclip_args.data_root the domains cannot be listed; "
            "name them, in the order of their ranks, in fedclip_args.domains"
        )
    place = _data_root(recipe, root)
    found = list_domains(place)
    if look_like_splits(found):
        raise DataError(splits_not_domains(place, found))
    return found


def _data_root(recipe: Recipe, root: Path | None) -> Path:
    chosen = root if root is not None else recipe.fedclip_args.data_root
    if chosen is None:
        raise DataError("fedclip_args.data_root is not given, so there are no images to read; set it")
    return chosen


def _folder(recipe: Recipe, name: str, place: SiloPlace, is_own: bool = False) -> Path:
    """Return the folder of a silo or of the target; with the layout ``silos`` a silo's own file names it (`is_own`)."""
    root = _data_root(recipe, place.data_root)
    if is_own and place.data_root is not None and recipe.fedclip_args.data_layout == "silos":
        return in_silo(root, name)
    return in_silo(root, name) if _PLACE in str(root) else _named_folder(root, name)


def _named_folder(root: Path, name: str) -> Path:
    folder = root / name
    if not folder.exists():
        there = list_domains(root)
        hint = did_you_mean(name, there)
        raise DataError(f"no folder {name!r} in {root}{hint}; it holds: {', '.join(there) or 'no folder'}")
    return folder


def _list(recipe: Recipe, place: SiloPlace, name: str) -> ImageList:
    """Read the list that holds a silo, or the target."""
    settings = recipe.fedclip_args
    path, root = place.data_list or settings.data_list, place.data_root or settings.data_root
    if path is None:
        raise DataError("fedclip_args.data_list is not given, so there are no images to read; set it")
    return ImageList.read(in_silo(path, name), Columns.from_keys(vars(settings)), root)


def _listed(recipe: Recipe, name: str, place: SiloPlace) -> tuple[ImageSet, Path]:
    """Return the images of a silo, or of the target, and the list that names them."""
    settings, found = recipe.fedclip_args, _list(recipe, place, name)
    silo = name if settings.silo_column else None
    return found.image_set(name, settings.classes, silo, files_needed=settings.on_bad_image == "error"), found.path


def _whole(recipe: Recipe, name: str, place: SiloPlace) -> ImageSet:
    """Return all images of the folder or list that is shared out."""
    layout, classes = recipe.fedclip_args.data_layout, recipe.fedclip_args.classes
    if layout == "list":
        return _listed(recipe, name, place)[0]
    root = _data_root(recipe, place.data_root)
    return scan_splits(root, name, classes) if layout == "splits" else scan_folder(root, name, classes)


def _shared_out(recipe: Recipe, silo_index: int, whole: ImageSet) -> ImageSet:
    parts = share_out(recipe, whole, recipe.train_args.client_num_in_total)
    told = whole.ignored if silo_index == 0 else ()  # one folder: what is left out is told once
    return replace(whole.subset(parts[silo_index]), ignored=told)


def share_out(recipe: Recipe, whole: ImageSet, count: int, of_many: bool = False) -> list[NDArray[np.int64]]:
    """Return the positions of the images of each of `count` silos, as the recipe's ``partition_`` keys say.

    Where `whole` is one `of_many` sets that are shared out, its name enters the draw: domains are skewed differently,
    and each in the same way whichever of them is held out. Errors as for `partition`, and a DataError when a group of
    the user's is in two of his splits.
    """
    require_whole_groups(whole)
    given = recipe.data_args.partition_seed
    seed = recipe.common_args.random_seed if given is None else given
    return partition(
        whole.labels,
        count,
        recipe.data_args.partition_method or "homo",
        recipe.data_args.partition_alpha,
        recipe.fedclip_args.min_images_per_silo,
        [seed, *whole.name.encode()] if of_many else seed,
        whole.groups,
        whole.splits,
        recipe.data_args.classes_per_client,
        whole.classes,
    )
