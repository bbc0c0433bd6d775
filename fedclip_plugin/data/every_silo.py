"""The images of all silos at once: what can be known of a federation's folders before any rank starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fedclip_plugin.data.clients import collect, list_clients, silo_split
from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.layout import silo_image_set, silo_names, target_image_set
from fedclip_plugin.data.names import twin_fault, twins
from fedclip_plugin.data.silo_config import places_in
from fedclip_plugin.data.splits import split_target
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.schema.types import expand_user

if TYPE_CHECKING:
    from fedclip_plugin.recipe import Recipe


def require_images_here(recipe: Recipe, away: Container[int] = ()) -> None:
    """See that every silo and the target have their images, where all folders and lists are on this machine.

    Folders are listed, lists are read, no image is opened. Nothing is looked at of silos whose indices are in ``away``,
    where each silo has a configuration file of its own, which only its rank reads, and of the built-in miniature, which
    is drawn by the ranks.

    Raises
    ------
    DataError
        A folder or list is missing or not as its layout asks, a silo has too few images, or classes differ; lists
        all that is wrong.
    """
    if recipe.draws_images or recipe.data_args.data_silo_config:
        return
    if recipe.simulated or recipe.shares_out():
        clients = list_clients(recipe)
        target = _target(recipe)
        sets = [*clients.image_sets, *([target] if target else [])]
        common_classes({images.name: images.classes for images in sets}, recipe.fedclip_args.classes)
        clients.usable_splits(recipe)
        return
    looks: list[Callable[[], ImageSet | None]] = [partial(_target, recipe)]
    looks[:0] = [partial(_splittable, recipe, index) for index in range(len(silo_names(recipe))) if index not in away]
    found = [images for images in collect(looks, "image folders or lists cannot be used") if images is not None]
    common_classes({images.name: images.classes for images in found}, recipe.fedclip_args.classes)


def look_at_own_file(recipe: Recipe, index: int) -> str:
    """Check a silo's file of ``data_silo_config``, and its images where file and images are on this machine.

    Returns what was found of the images, or what is not here. Folders are listed, lists are read, no image is opened.

    Raises
    ------
    RecipeError
        The file does not hold what it should.
    DataError
        A place that it names is here and cannot be used.
    """
    path = (recipe.data_args.data_silo_config or ())[index]
    if not os.path.lexists(path):
        return f"{path} is not on this machine: not checked"
    for place in places_in(path).values():
        try:
            here = os.path.lexists(expand_user(place))
        except ValueError:  # a variable or a user of the silo's machine
            here = False
        if not here:
            return f"{path} names {place}, which is not on this machine: not checked"
    try:
        images = _splittable(recipe, index)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return f"{path}: {len(images)} images of {len(images.classes)} classes in {images.root}"


def common_classes(by_silo: Mapping[str, Sequence[str]], listed: Sequence[str] | None) -> tuple[str, ...]:
    """Return the class list of a federation.

    Parameters
    ----------
    listed
        The recipe's class list, which rules when there is one.

    Raises
    ------
    DataError
        There is no list and the folders differ; names the silos and the classes.
    """
    if listed:
        return tuple(listed)
    everything = sorted({name for classes in by_silo.values() for name in classes})
    faults = [
        f"{name} lacks {', '.join(missing)}"
        for name, classes in by_silo.items()
        if (missing := [label for label in everything if label not in classes])
    ]
    if not faults:
        return tuple(everything)
    spelt = "".join(f". {twin_fault(group)}" for group in twins(everything))
    raise DataError(
        f"the silos' classes differ: {'; '.join(faults)}{spelt}. Give every silo the same class folders or labels, or "
        "list the classes of the federation in fedclip_args.classes (a silo may then lack some)"
    )


def _splittable(recipe: Recipe, index: int) -> ImageSet:
    images = silo_image_set(recipe, index)
    silo_split(images, recipe)
    return images


def _target(recipe: Recipe) -> ImageSet | None:
    images = target_image_set(recipe)
    if images is not None:
        split_target(images, recipe.fedclip_args.class_split == "base_new")
    return images
