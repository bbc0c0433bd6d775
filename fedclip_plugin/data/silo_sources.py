"""From what ``fit`` is given as silos to the keys of a recipe: folders, lists, datasets, or the built-in miniature."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from fedclip_edge.arguments import as_path
from fedclip_edge.files import writing_to
from fedclip_edge.sample_range import is_range
from fedclip_miniature import DOMAINS
from fedclip_plugin.data.checking.listing import list_images
from fedclip_plugin.data.datasets import Labelled, labelled_files
from fedclip_plugin.data.image_folders import find_layout, scan_folder
from fedclip_plugin.data.lists import Columns, ImageList, Row, is_list, write_list
from fedclip_plugin.data.lists.image_list import SHARED
from fedclip_plugin.data.names import name_fault
from fedclip_plugin.data.splits import divided_groups
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import Fault, closest, did_you_mean, listed, recipe_error
from fedclip_plugin.recipe.schema.types import folder_name

Images: TypeAlias = "str | Path | Labelled"
"""A silo's images: a folder of class folders, a list file, (path, label) pairs, or a dataset of images with labels."""

MINIATURE = "miniature"
"""The built-in data set, four drawn domains, in place of silos."""

_FOLLOWS = ("dataset", "data_layout", "data_list", "domains", "silos", "target_domain", "data_silo_config")
"""Keys that the silos themselves say."""

logger = logging.getLogger(__name__)


def keys_of_silos(
    silos: Mapping[str, Images] | str | Path, target: Any, keys: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Return the keys of a recipe: those that silos and a target say, as ``fit`` takes them, and ``keys``.

    Parameters
    ----------
    keys
        Other keys of the recipe.
    source
        What a RecipeError names as its place.

    Raises
    ------
    RecipeError
        A key contradicts what the silos say.
    DataError
        Images cannot be used.
    """
    follows = [*_FOLLOWS, *(["data_root"] if not _has_list(silos) else [])]
    if wrong := [
        Fault(key, "follows from silos and target; leave it out", keys[key]) for key in follows if key in keys
    ]:
        raise recipe_error(source, wrong)
    places = silos.values() if isinstance(silos, Mapping) else [silos]
    for place in (*places, target, Path.cwd()):
        if isinstance(place, str | Path) and (not str(place) or "$" in str(place) or "{silo}" in str(place)):
            raise DataError(f"{str(place)!r} cannot be the place of images: it is empty, or has a $ or {{silo}} in it")
    if isinstance(silos, str) and silos == MINIATURE:
        return _miniature(target, keys, source) | dict(keys)
    if isinstance(silos, str | Path):
        return _one_place(_place(silos), target, keys) | dict(keys)
    return _own(silos, target, keys, source)


def _miniature(target: Any, keys: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the keys of the built-in data set."""
    if target is not None and target not in DOMAINS:
        close = closest(target, DOMAINS)
        raise recipe_error(
            source, [Fault("target", f"must be a domain of the miniature, {listed(DOMAINS)}", target, close)]
        )
    count = len(DOMAINS) - (target is not None)
    return {"dataset": MINIATURE, "target_domain": target, **_counts(count * _clients_of_a_domain(keys))}


def _clients_of_a_domain(keys: Mapping[str, Any]) -> int:
    """Return how many clients of a simulation share a domain; 1 where that is not said, or not rightly."""
    each = keys.get("silos_per_domain")
    return each if type(each) is int and each > 0 else 1


def _one_place(path: Path, target: Any, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys for one folder or list that holds all silos, or is shared out among them."""
    if not os.path.exists(path):  # noqa: PTH110 (Path's own raises for a name that is too long)
        raise DataError(
            f"silos is {str(path)!r}, and there is no such folder or list; give one, 'miniature', or a dictionary from "
            "each silo's name to its images"
        )
    if target is not None and not isinstance(target, str):
        raise DataError(f"target is a {type(target).__name__}; name one of the domains or silos in {path}")
    listing = list_images(path.absolute(), Columns.from_keys(keys), _root(keys))
    found = listing.proposal(target).keys
    flat = {key: value for section in found.values() for key, value in section.items()}
    if listing.layout in ("classes", "splits") or (listing.layout == "list" and not flat.get("silo_column")):
        flat["partition_method"] = "homo"
        if "client_num_in_total" in keys:
            flat |= _counts(keys["client_num_in_total"])
    if flat.get("data_layout") == "domains":
        flat |= _counts(flat["client_num_in_total"] * _clients_of_a_domain(keys))
    return {"dataset": "own", **flat}


def _own(silos: Any, target: Any, keys: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the keys of images of one's own; lists and datasets become list files that the recipe names."""
    if not isinstance(silos, Mapping) or not silos:
        raise DataError(
            f"silos is {silos!r}; give a dictionary from each silo's name to its folder, list or dataset, a folder or "
            "list of all silos, or 'miniature'"
        )
    every = {_silo_name(name): images for name, images in silos.items()}
    held = _target_name(every, target)
    if held is not None and held not in every:
        every[held] = target
    _require_own_folders(every, held)
    names = [name for name in every if name != held]
    shared = {"dataset": "own", "silos": names, "target_domain": held, **_counts(len(names))}
    _require_lists(every, keys, source)
    if (root := _common_root(every)) is not None:
        return {"data_layout": "silos", "data_root": root, **shared, **keys}
    # Those of lists that were written are other ones, and their files have full paths.
    columns = {"data_root", *Columns.recipe_keys()}
    left = {key: value for key, value in keys.items() if key not in columns}
    return shared | left | _listed(every, keys, held)


def _require_lists(every: Mapping[str, Any], keys: Mapping[str, Any], source: str) -> None:
    """Refuse columns for silos that have none: a group that was asked for would be lost in silence."""
    without = [name for name, own in every.items() if not (isinstance(own, str | Path) and is_list(Path(own)))]
    lost = ["group_column", "split_column"] if without else []  # the files and labels of the others may have columns
    columns = lost if len(without) < len(every) else list(Columns.recipe_keys())
    rule = (
        f"{listed(without)} are folders, pairs or datasets and have no columns; give list files (.csv), or leave it out"
    )
    wrong = [Fault(key, rule, keys[key]) for key in columns if keys.get(key) is not None]
    if keys.get("silo_column") is not None and len(without) < len(every):
        wrong.append(Fault("silo_column", "the dictionary says whose each list is; leave it out", keys["silo_column"]))
    if wrong:
        raise recipe_error(source, wrong)


def _require_own_folders(every: Mapping[str, Any], held: str | None) -> None:
    """Refuse a target that is a silo's own folder or list, by whatever path, and warn of silos of one place."""
    owners: dict[str, list[str]] = {}
    for name, own in every.items():
        if isinstance(own, str | Path):
            owners.setdefault(os.path.realpath(_place(own)), []).append(name)
    for place, names in owners.items():
        if held in names and len(names) > 1:
            owner = next(name for name in names if name != held)
            raise DataError(f"the target is the place of silo {owner!r}, {place}; no silo may train on the target")
        if len(names) > 1:
            logger.warning(
                "silos %s have the same images, %s: one tests on what another trains on", listed(names), place
            )


def _has_list(silos: Any) -> bool:
    places = silos.values() if isinstance(silos, Mapping) else [silos]
    return any(isinstance(place, str | Path) and is_list(Path(place)) for place in places)


def _silo_name(name: Any) -> str:
    """Return a silo's name; nothing is written under one that is no folder's."""
    if not isinstance(name, str):
        raise DataError(f"silo name {name!r} is a {type(name).__name__}; names are text")
    try:
        fault = name_fault(folder_name(name))
    except ValueError as error:
        raise DataError(f"silo name {name!r} {error}") from error
    if fault:
        raise DataError(f"silo name {name!r} {fault}")
    return name


def _place(path: Any, what: str = "the place of images") -> Path:
    return as_path(path, what, DataError)


def _root(keys: Mapping[str, Any]) -> Path | None:
    """Return what the files of lists are relative to, where a key says so."""
    root = keys.get("data_root")
    return None if root is None else _place(root, "data_root").absolute()


def _counts(silos: int) -> dict[str, Any]:
    return {"client_num_in_total": silos, "client_num_per_round": silos}


def _target_name(every: Mapping[str, Any], target: Any) -> str | None:
    if target is None:
        return None
    if isinstance(target, str) and target in every:
        return target
    name = _place(target, "target").resolve().name if isinstance(target, str | Path) else "target"
    if isinstance(target, str) and not _place(target, "target").exists():
        hint = did_you_mean(target, every)
        raise DataError(f"target {target!r} is neither one of silos, {listed(every)}{hint}, nor a folder that is there")
    if name in every:
        raise DataError(f"the target's folder is called {name!r}, as one of silos is; give that silo another name")
    return name


def _common_root(every: Mapping[str, Any]) -> Path | None:
    """Return the folder in which each silo's folder is called as the silo; None where there is none."""
    if not all(isinstance(images, str | Path) for images in every.values()):
        return None
    places = {name: _place(images).absolute() for name, images in every.items()}
    roots = {place.parent for name, place in places.items() if place.name == name}
    fits = len(roots) == 1 and all(place.name == name and place.is_dir() for name, place in places.items())
    return roots.pop() if fits else None


def _listed(every: Mapping[str, Images], keys: Mapping[str, Any], held: str | None) -> dict[str, Any]:
    """Write every silo's files and labels as a list, in a folder named after their content; return the keys for it."""
    cache = _place(keys.get("data_cache_dir", ".fedclip/data"), "data_cache_dir")
    given = keys.get("sample_range")
    sample_range = tuple(given) if given is not None and is_range(given) else None  # else the recipe refuses it
    classes = _classes(keys)
    rows: dict[str, list[Row]] = {}
    orders: dict[str, tuple[str, ...]] = {}
    for name, images in every.items():
        if isinstance(images, str | Path):
            rows[name] = _rows(_place(images), name, keys, classes)
            continue
        files, order = labelled_files(images, name, cache / "images", classes, sample_range)
        rows[name] = [Row(str(path), label) for path, label in files]
        if order is not None:
            orders[name] = order
    if len(set(orders.values())) > 1:
        told = "; ".join(f"{name}: {listed(order)}" for name, order in orders.items())
        raise DataError(f"the datasets name their classes differently ({told}); give them one order of classes")
    _tell_apart(rows, held)
    content = hashlib.sha256(repr([(name, *own) for name, own in rows.items()]).encode()).hexdigest()
    place = cache / "lists" / content[:16]
    with writing_to(f"the lists of images in {place}", DataError):
        place.mkdir(parents=True, exist_ok=True)
        columns, *_ = (write_list(place / f"{name}.csv", own) for name, own in rows.items())
    named = {f"{what}_column": name for what, name in columns.named().items() if what in ("group", "split")}
    ordered = {"classes": list(next(iter(orders.values())))} if orders and "classes" not in keys else {}
    return {"data_layout": "list", "data_list": place.absolute() / "{silo}.csv", **named, **ordered}


def _classes(keys: Mapping[str, Any]) -> list[str] | None:
    """Return the class list that a key gives; None where it is none, which the recipe refuses."""
    given = keys.get("classes")
    if not given or not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        return None
    return list(given)


def _tell_apart(rows: Mapping[str, Sequence[Row]], held: str | None) -> None:
    """Refuse a target whose images a silo trains on, and warn of groups that several silos have."""
    tested = {os.path.realpath(row.file) for row in rows.get(held or "", ())}
    for name, own in rows.items():
        if name != held and (shared := [row.file for row in own if os.path.realpath(row.file) in tested]):
            raise DataError(f"{len(shared)} images are both the target's and {name}'s, such as {shared[0]}; part them")
    grouped = [(row.group, name) for name, own in rows.items() for row in own if row.group]
    several = list(divided_groups([group for group, _ in grouped], [name for _, name in grouped]))
    if several:
        group, names = several[0]
        told = listed(sorted(names, key=list(rows).index))
        logger.warning("%d groups are in several silos, such as %s in %s; %s", len(several), group, told, SHARED)


def _rows(path: Path, name: str, keys: Mapping[str, Any], classes: Sequence[str] | None) -> list[Row]:
    """Return the images of a silo's own list or folder, their files with full paths."""
    if is_list(path):
        images = ImageList.read(path.absolute(), Columns.from_keys(keys), _root(keys))
        return [replace(row, file=str(images.root / row.file)) for row in images.rows]
    if path.is_dir() and find_layout(path) != "classes":
        raise DataError(f"{name}: {path} holds folders of folders; give a silo's own folder, with one folder a class")
    found = scan_folder(path.absolute(), name, classes)
    pairs = zip(found.paths(), found.labels.tolist(), strict=True)
    return [Row(str(file), found.classes[label]) for file, label in pairs]
