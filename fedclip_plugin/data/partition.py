"""Share the images of one folder or list out among silos: evenly, or with a skew of labels or of sizes.

What is shared out whole is a *unit*: an image, or a group of images. Every method says, of each unit, whose it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.data.splits import PARTS, members_of
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import listed
from fedclip_plugin.recipe.rules.data import BY_ALPHA, BY_CLASSES

Owners = NDArray[np.int64]
"""Of each unit the silo whose it is, ``[U]``."""

MAX_DRAWS: int = 1000
"""Dirichlet draws that are tried before a minimum per silo is given up."""

_FEWER_DRAWS = 100  # of classes or shards, which change less from one draw to the next
_SHOWN = 5


def partition(
    labels: NDArray[np.int64],
    silo_count: int,
    method: str,
    alpha: float | None,
    minimum: int,
    seed: int | Sequence[int],
    groups: NDArray[np.str_] | None = None,
    splits: NDArray[np.str_] | None = None,
    classes_per_client: int | None = None,
    classes: Sequence[str] | None = None,
) -> list[NDArray[np.int64]]:
    """Give every image to exactly one silo; same arguments, same answer on every rank.

    Parameters
    ----------
    labels
        Class index of each image, of shape ``[N]``.
    method
        The recipe's ``partition_method``:

        - ``homo`` (FedML's) shuffles and cuts into parts whose sizes differ by at most one;
        - ``hetero`` (FedML's) draws, class by class, each silo's share from a Dirichlet distribution, and lets silos
          that already hold N / `silo_count` images out (fedml/core/data/noniid_partition.py; Hsu et al., arXiv
          1909.06335);
        - ``classes`` gives each silo `classes_per_client` classes: at random, so that the silos of any two classes
          differ in number by at most one; a class's images are shared evenly among its silos (Li et al., arXiv
          2102.02079: quantity-based label imbalance);
        - ``shards`` sorts by label, in random order within a class, cuts into `silo_count` x `classes_per_client`
          shards whose sizes differ by at most one, and gives each silo `classes_per_client` of them at random (McMahan
          et al., arXiv 1602.05629, section 3: pathological non-IID);
        - ``quantity`` shuffles and draws the silos' shares of all images from a Dirichlet distribution (Li et al.:
          quantity skew).
    alpha
        Concentration of the Dirichlet distribution, above 0; small is very uneven. Only for ``hetero`` and
        ``quantity``.
    minimum
        Fewest images that a silo may get, never less than 1; all methods but ``homo`` draw again until that holds.
    groups
        Group of each image, such as the patient: no group is in two silos. ``homo`` and ``classes`` give each group, in
        shuffled order, to the silo with fewest images; the others take a group for one of its most frequent class, cut
        where its first image is. ``classes`` takes groups of one class only. A silo gets at least 3 groups, of which a
        split can be made, where there are no `splits`.
    splits
        The user's own split, ``train``, ``validation`` or ``test``: each is shared out for itself, in equal shares
        or by the same ones, and every silo gets some of each; within a class, shards mix the three evenly.
    classes_per_client
        Classes or shards of each silo, at least 1. Only for ``classes`` and ``shards``.
    classes
        Names of the classes, for what errors say.

    Returns
    -------
    list of arrays
        Per silo, its ``int64`` positions in `labels`, rising.

    Raises
    ------
    DataError
        Unknown `method`, `alpha` not above 0, no silo, or what cannot be met: a `minimum` of images, groups or splits,
        or a number of classes.
    """
    minimum = max(minimum, 1)
    _check_count(len(labels), silo_count, minimum)
    _check_method(method, alpha, classes_per_client)
    units = _Units.of(labels, groups, splits)
    ask = _Ask(silo_count, alpha or 0.0, classes_per_client or 0)
    if method == "classes":
        _check_classes(units, labels, ask, classes)
    if method == "shards":
        _check_shards(units, ask)
    draw, tries = METHODS[method]
    rng = np.random.default_rng(seed)
    for _ in range(tries):
        owners = draw(units, ask, rng)
        if not (lack := units.lack(owners, silo_count, minimum) or _few_classes(method, units, owners, ask)):
            return units.images(owners, silo_count)
    if method in BY_ALPHA:
        raise DataError(
            f"{tries} Dirichlet draws with partition_alpha {alpha:g} left a silo with {lack} of the {len(labels)} "
            f"images each time ({silo_count} silos); raise partition_alpha, or lower min_images_per_silo "
            "or client_num_in_total"
        )
    raise DataError(
        f"{len(labels)} images, shared out among {silo_count} silos, leave one with {lack}; add images, or lower "
        "client_num_in_total or min_images_per_silo"
    )


@dataclass(frozen=True)
class _Ask:
    """What a method is asked for: silos, the Dirichlet distribution's concentration, classes or shards a silo."""

    silos: int
    alpha: float
    each: int


@dataclass(frozen=True, eq=False)
class _Units:
    """What is shared out whole, U images or groups of images; `labels`, `parts`, `sizes` are ``[U]``."""

    labels: NDArray[np.int64]
    parts: NDArray[np.str_] | None  # of the user's own split
    sizes: NDArray[np.int64]
    members: Sequence[NDArray[np.int64]] | None  # positions of each group's images; None: a unit is an image

    @staticmethod
    def of(labels: NDArray[np.int64], groups: NDArray[np.str_] | None, splits: NDArray[np.str_] | None) -> _Units:
        """Return the groups, or the images where there are none."""
        if groups is None:
            return _Units(labels, splits, np.ones(len(labels), np.int64), None)
        members = list(members_of(groups).values())
        most = np.array([np.bincount(labels[own]).argmax() for own in members], np.int64)
        first = np.array([own[0] for own in members])
        parts = None if splits is None else splits[first]
        return _Units(most, parts, np.array([len(own) for own in members], np.int64), members)

    def strata(self, chosen: NDArray[np.bool_] | None = None) -> list[NDArray[np.int64]]:
        """Return units, of all or of some, apart by the user's own split."""
        among = np.ones(len(self.labels), bool) if chosen is None else chosen
        if self.parts is None:
            return [np.flatnonzero(among)]
        return [np.flatnonzero(among & (self.parts == part)) for part in PARTS]

    def images(self, owners: Owners, silo_count: int) -> list[NDArray[np.int64]]:
        """Return of each silo the positions of its images, rising."""
        order = np.argsort(owners, kind="stable")
        own = np.split(order, np.cumsum(np.bincount(owners, minlength=silo_count))[:-1])
        if self.members is None:
            return own
        return [np.sort(np.concatenate([self.members[unit] for unit in units])) for units in own]

    def lack(self, owners: Owners, silo_count: int, minimum: int) -> str:
        """Say what some silo lacks; empty when nothing."""
        images = np.bincount(owners, self.sizes, silo_count)
        if images.min() < minimum:
            return f"fewer than {minimum} (the smallest has {int(images.min())})"
        if self.parts is not None:
            found = [np.bincount(owners[self.parts == part], minlength=silo_count).min() for part in PARTS]
            return "" if min(found) else f"none of one split ({', '.join(PARTS)})"
        few = self.members is not None and np.bincount(owners, minlength=silo_count).min() < len(PARTS)
        return f"fewer than {len(PARTS)} groups" if few else ""


def _check_count(count: int, silo_count: int, minimum: int) -> None:
    if silo_count < 1:
        raise DataError(f"client_num_in_total is {silo_count}; at least one silo is needed")
    if silo_count * minimum > count:
        raise DataError(
            f"{count} images cannot give each of {silo_count} silos {minimum}; add images, or lower "
            "client_num_in_total or min_images_per_silo"
        )


def _check_method(method: str, alpha: float | None, each: int | None) -> None:
    if method not in METHODS:
        raise DataError(f"partition_method {method!r} is not known; choose one of {', '.join(METHODS)}")
    if method in BY_ALPHA and (alpha is None or not (alpha > 0 and math.isfinite(alpha))):
        raise DataError(f"partition_alpha is {alpha}; partition_method: {method} needs a finite number above 0")
    if method in BY_CLASSES and (each is None or each < 1):
        raise DataError(f"classes_per_client is {each}; partition_method: {method} needs 1 or more")


def _check_shards(units: _Units, ask: _Ask) -> None:
    """Refuse more shards than there is to be cut."""
    if (shards := ask.silos * ask.each) > len(units.labels):
        raise DataError(
            f"classes_per_client {ask.each} x {ask.silos} silos = {shards} shards, more than there are images or "
            f"groups, {len(units.labels)}; lower classes_per_client or client_num_in_total"
        )


def _check_classes(units: _Units, labels: NDArray[np.int64], ask: _Ask, classes: Sequence[str] | None) -> None:
    """Refuse what no draw of ``classes`` could meet."""
    found, counts = np.unique(units.labels, return_counts=True)
    told = f"classes_per_client {ask.each}"
    if units.members is not None and (mixed := [own for own in units.members if len(np.unique(labels[own])) > 1]):
        raise DataError(
            f"partition_method: classes gives a silo whole groups of its classes alone, but {len(mixed)} of "
            f"{len(units.members)} groups have images of several classes; take hetero or shards, or leave "
            "fedclip_args.group_column out"
        )
    if ask.each > len(found):
        raise DataError(f"{told} is more than the {len(found)} classes that have images; lower it")
    if ask.silos * ask.each < len(found):
        raise DataError(
            f"{told} x {ask.silos} silos = {ask.silos * ask.each}, which leaves {len(found) - ask.silos * ask.each} of "
            f"the {len(found)} classes to no silo; raise classes_per_client or client_num_in_total"
        )
    least = ask.silos * ask.each // len(found)
    names = [classes[own] if classes else str(own) for own in found]
    rare = [f"{name} {count}" for name, count in zip(names, counts, strict=True) if count < least]
    if rare:
        what = "images" if units.members is None else "groups"
        raise DataError(
            f"{told} x {ask.silos} silos gives each of {len(found)} classes to {least} silos or more, and "
            f"{len(rare)} have fewer {what}: {listed(rare, _SHOWN)}; lower "
            "classes_per_client or client_num_in_total, or add images"
        )


def _few_classes(method: str, units: _Units, owners: Owners, ask: _Ask) -> str:
    """Say that some silo has fewer classes than it was to have; empty where none has, or nothing was promised."""
    if method != "classes":
        return ""
    holders = np.unique(np.stack([owners, units.labels]), axis=1)[0]
    return f"fewer than {ask.each} classes" if np.bincount(holders, minlength=ask.silos).min() < ask.each else ""


def _even(units: _Units, ask: _Ask, rng: np.random.Generator) -> Owners:
    owners = np.full(len(units.labels), -1, np.int64)
    _deal(units, units.strata(), np.arange(ask.silos), owners, rng)
    return owners


def _deal(
    units: _Units,
    strata: Sequence[NDArray[np.int64]],
    silos: NDArray[np.int64],
    owners: Owners,
    rng: np.random.Generator,
) -> None:
    """Share units evenly among some silos, each stratum for itself; fills `owners`."""
    filled = np.zeros(len(silos), dtype=np.int64)
    for stratum in strata:
        order = rng.permutation(stratum)
        if units.members is None:
            for silo, part in zip(silos, np.array_split(order, len(silos)), strict=True):
                owners[part] = silo
            continue
        here = np.zeros(len(silos), dtype=np.int64)
        for unit in order:
            place = int(np.lexsort((filled, here))[0])
            owners[unit] = silos[place]
            here[place] += units.sizes[unit]
            filled[place] += units.sizes[unit]


def _by_class(units: _Units, ask: _Ask, rng: np.random.Generator) -> Owners:
    found, index = np.unique(units.labels, return_inverse=True)
    taken = np.zeros(len(found), np.int64)
    holds = np.zeros((len(found), ask.silos), bool)
    for silo in range(ask.silos):  # the classes that fewest silos have, at random where several are equal
        own = np.lexsort((rng.random(len(found)), taken))[: ask.each]
        taken[own] += 1
        holds[own, silo] = True
    owners = np.full(len(units.labels), -1, np.int64)
    for label in range(len(found)):
        _deal(units, units.strata(index == label), rng.permutation(np.flatnonzero(holds[label])), owners, rng)
    return owners


def _by_shard(units: _Units, ask: _Ask, rng: np.random.Generator) -> Owners:
    key = np.zeros(len(units.labels))  # within a class at random, the user's three splits mixed evenly
    for label in np.unique(units.labels):
        for stratum in units.strata(units.labels == label):
            key[rng.permutation(stratum)] = (np.arange(len(stratum)) + rng.random()) / max(1, len(stratum))
    order = np.lexsort((key, units.labels))
    count = ask.silos * ask.each
    own = units.sizes[order]
    cuts = np.arange(1, count) * int(own.sum()) // count
    owners = np.zeros(len(order), np.int64)
    owners[order] = rng.permutation(count)[_places(own, cuts)] // ask.each
    return owners


def _by_dirichlet(units: _Units, ask: _Ask, rng: np.random.Generator) -> Owners:
    owners, sizes = np.zeros(len(units.labels), np.int64), np.zeros(ask.silos, dtype=np.int64)
    for label in np.unique(units.labels):
        strata = [rng.permutation(stratum) for stratum in units.strata(units.labels == label)]
        is_open = sizes < units.sizes.sum() / ask.silos
        shares = rng.dirichlet(np.full(ask.silos, ask.alpha)) * is_open
        if not shares.sum() > 0:  # a very small alpha can give everything to a full silo, or underflow to NaN
            shares = is_open.astype(np.float64)
        for members in strata:
            owners[members] = _shared(units.sizes[members], shares)
            sizes += np.bincount(owners[members], units.sizes[members], ask.silos).astype(np.int64)
    return owners


def _by_quantity(units: _Units, ask: _Ask, rng: np.random.Generator) -> Owners:
    owners = np.zeros(len(units.labels), np.int64)
    shares = rng.dirichlet(np.full(ask.silos, ask.alpha))
    if not shares.sum() > 0:  # a very small alpha can underflow to NaN: all would be one silo's
        shares = np.eye(ask.silos)[0]
    for stratum in units.strata():
        order = rng.permutation(stratum)
        owners[order] = _shared(units.sizes[order], shares)
    return owners


def _shared(sizes: NDArray[np.int64], shares: NDArray[np.float64]) -> Owners:
    """Cut units of these sizes, in their order, by each silo's share of the images."""
    return _places(sizes, (np.cumsum(shares / shares.sum()) * sizes.sum()).astype(np.int64)[:-1])


def _places(sizes: NDArray[np.int64], cuts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return between which cuts the first image of each unit lies."""
    return np.searchsorted(cuts, np.cumsum(sizes) - sizes, side="right")


METHODS: dict[str, tuple[Callable[[_Units, _Ask, np.random.Generator], Owners], int]] = {
    "homo": (_even, 1),
    "hetero": (_by_dirichlet, MAX_DRAWS),
    "classes": (_by_class, _FEWER_DRAWS),
    "shards": (_by_shard, _FEWER_DRAWS),
    "quantity": (_by_quantity, MAX_DRAWS),
}
"""Values of ``partition_method``: how each shares units out, and how often it is drawn to meet a minimum."""
