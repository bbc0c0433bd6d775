"""The clients of a simulation: whose images are whose, from one listing of all images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.data.image_set import ImageSet
from fedclip_plugin.data.layout import domain_image_sets, share_out, silo_image_set, silo_names, whole_image_set
from fedclip_plugin.data.splits import PARTS, Split, require_new, split_images
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import listed

if TYPE_CHECKING:
    from fedclip_plugin.recipe import Recipe


T = TypeVar("T")

_SHOWN = 20  # faults that an error lists


@dataclass(frozen=True)
class Client:
    """One client and its images.

    Attributes
    ----------
    name
        Of the client.
    source
        What its results are told under: its domain; where images are of no domain, the data set.
    image_set
        Index of the image set that its images are in.
    positions
        Which of that set's images, ``[n]``, rising.
    """

    name: str
    source: str
    image_set: int
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class Clients:
    """All clients of a simulation, and the image sets that they share; nothing is decoded."""

    image_sets: tuple[ImageSet, ...]
    members: tuple[Client, ...]

    def __len__(self) -> int:
        return len(self.members)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names under which results are told, in order."""
        return tuple(dict.fromkeys(client.source for client in self.members))

    def readable(self, kept: Sequence[NDArray[np.int64]]) -> Clients:
        """Return the clients with those images alone that can be read.

        Parameters
        ----------
        kept
            Of each image set, the positions of its readable images, rising. Positions of clients count among these.
        """
        if all(len(own) == len(images) for images, own in zip(self.image_sets, kept, strict=True)):
            return self
        sets = tuple(images.subset(own) for images, own in zip(self.image_sets, kept, strict=True))
        places = [np.full(len(images), -1, np.int64) for images in self.image_sets]
        for place, own in zip(places, kept, strict=True):
            place[own] = np.arange(len(own))
        members = []
        for client in self.members:
            among = places[client.image_set][client.positions]
            members.append(replace(client, positions=among[among >= 0]))
        return Clients(sets, tuple(members))

    def splits(self, seed: int, shots: int | None = None, base_new: bool = False) -> list[Split]:
        """Split each client's images, as a silo's are; positions are those in the client's image set.

        Parameters
        ----------
        shots, base_new
            As for `split_images`.

        Raises
        ------
        DataError
            A part of a client's images would be empty, or has too few images; names the clients, or the first few.
        """

        def _split(client: Client) -> Split:
            images = self.image_sets[client.image_set].subset(client.positions)
            own = split_images(replace(images, name=client.name), seed, shots, base_new)
            return Split(*(client.positions[getattr(own, part)] for part in (*PARTS, "new")))

        return collect((partial(_split, client) for client in self.members), f"of {len(self)} clients cannot be used")

    def table(self) -> NDArray[np.int64]:
        """Return how many images of each class every client has, ``[clients, classes]``; all sets of one class list."""
        width = len(self.image_sets[0].classes)
        counts = (
            np.bincount(self.image_sets[own.image_set].labels[own.positions], minlength=width) for own in self.members
        )
        return np.stack(list(counts))

    def usable_splits(self, recipe: Recipe) -> list[Split]:
        """Split each client's images as the recipe asks, and see that every class of a simulation has a client.

        Raises
        ------
        DataError
            Lists what is lacking.
        """

        def _every_class() -> list[Split]:
            empty = np.flatnonzero(self.table().sum(axis=0) == 0)
            if recipe.simulated and len(empty):
                classes = self.image_sets[0].classes
                raise DataError(
                    f"{len(empty)} of {len(classes)} classes have no image of any client: "
                    f"{listed(classes[own] for own in empty)}; take them out of fedclip_args.classes, or add images"
                )
            return []

        asked = partial(self.splits, *_splitting(recipe))
        splits = collect((_every_class, asked), "faults in the clients' images")[1]
        if recipe.fedclip_args.class_split == "base_new":
            for source in self.sources:
                own = (split for client, split in zip(self.members, splits, strict=True) if client.source == source)
                require_new(own, self.image_sets[0].classes, source)
        return splits


def silo_split(images: ImageSet, recipe: Recipe) -> Split:
    """Split the images of a silo as a recipe asks; errors as of `split_images` and `require_new`."""
    found = split_images(images, *_splitting(recipe))
    if recipe.fedclip_args.class_split == "base_new":
        require_new([found], images.classes, images.name)
    return found


def _splitting(recipe: Recipe) -> tuple[int, int | None, bool]:
    settings = recipe.fedclip_args
    return recipe.common_args.random_seed, settings.shots, settings.class_split == "base_new"


def collect(looks: Iterable[Callable[[], T]], told: str) -> list[T]:
    """Return what all looks at images give, or raise a DataError with all that is wrong, the first few and a count.

    Several faults have a line above them: their number, and `told`.
    """
    found: list[T] = []
    faults: list[str] = []
    for look in looks:
        try:
            found.append(look())
        except DataError as error:
            faults.append(str(error))
    faults = list(dict.fromkeys(faults))  # a missing data root is one fault
    if len(faults) > 1:
        more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        raise DataError("\n  ".join([f"{len(faults)} {told}", *faults[:_SHOWN], *more]))
    if faults:
        raise DataError(faults[0])
    return found


def list_clients(recipe: Recipe, root: Path | None = None, domains: Sequence[str] | None = None) -> Clients:
    """List the clients of a simulation.

    Of ``data_layout: domains`` each domain is a client, or is shared out among ``silos_per_domain`` of them; one folder
    or list is shared out among all; of the other layouts each silo is a client.

    Parameters
    ----------
    root, domains
        As for `silo_names`.

    Raises
    ------
    DataError
        Images are missing, or cannot be shared out as the recipe asks; names what is lacking.
    """
    each, total = recipe.fedclip_args.silos_per_domain, recipe.train_args.client_num_in_total
    if recipe.shares_out():
        whole = whole_image_set(recipe, recipe.data_args.dataset)
        names = silo_names(recipe)
        parts = share_out(recipe, whole, total)
        pairs = zip(names, parts, strict=True)
        return Clients((whole,), tuple(Client(name, whole.name, 0, own) for name, own in pairs))
    if each is not None:
        return _within_domains(recipe, each, domain_image_sets(recipe, root, domains))
    looks = (partial(silo_image_set, recipe, index, root, domains) for index in range(total))
    sets = collect(looks, f"of {total} silos cannot be used")
    of_domains = recipe.fedclip_args.data_layout == "domains"
    members = (
        Client(own.name, own.name if of_domains else recipe.data_args.dataset, index, np.arange(len(own)))
        for index, own in enumerate(sets)
    )
    return Clients(tuple(sets), tuple(members))


def _within_domains(recipe: Recipe, each: int, sets: Sequence[ImageSet]) -> Clients:
    total = recipe.train_args.client_num_in_total
    if len(sets) * each != total:
        raise DataError(
            f"client_num_in_total is {total}, but there are {len(sets)} domains besides the target x silos_per_domain "
            f"{each} = {len(sets) * each} clients; set it so"
        )

    def _shared(images: ImageSet) -> list[NDArray[np.int64]]:
        try:
            return share_out(recipe, images, each, of_many=True)
        except DataError as error:
            told = error.text.replace("client_num_in_total", "silos_per_domain")  # what there is to change here
            raise DataError(f"{images.name}: {told}") from error

    members, width = list[Client](), len(str(each))
    found = collect((partial(_shared, images) for images in sets), f"of {len(sets)} domains cannot be shared out")
    for index, (images, parts) in enumerate(zip(sets, found, strict=True)):
        names = [f"{images.name}_{number:0{width}d}" for number in range(1, each + 1)] if each > 1 else [images.name]
        members += [Client(name, images.name, index, own) for name, own in zip(names, parts, strict=True)]
    return Clients(tuple(sets), tuple(members))
