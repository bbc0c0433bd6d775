"""Share the images of one folder or list out among silos: evenly, or with Dirichlet label skew; groups stay whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.data.splits import PARTS, members_of
from fedclip_plugin.errors import DataError

METHODS: tuple[str, ...] = ("hetero", "homo")
"""FedML's values of ``partition_method`` that are supported."""

MAX_DRAWS: int = 1000
"""Dirichlet draws that are tried before a minimum per silo is given up."""


def partition(
    labels: NDArray[np.int64],
    silo_count: int,
    method: str,
    alpha: float | None,
    minimum: int,
    seed: int,
    groups: NDArray[np.str_] | None = None,
    splits: NDArray[np.str_] | None = None,
) -> list[NDArray[np.int64]]:
    """Give every image to exactly one silo; same arguments, same answer on every rank.

    Parameters
    ----------
    labels
        Class index of each image, of shape ``[N]``.
    method
        FedML's ``partition_method``: ``homo`` shuffles and cuts into parts whose sizes differ by at most one;
        ``hetero`` draws, class by class, each silo's share from a Dirichlet distribution, and lets silos that
        already hold N / `silo_count` images out (fedml/core/data/noniid_partition.py; Hsu et al., arXiv
        1909.06335).
    alpha
        Concentration of the Dirichlet distribution, above 0; small is very uneven. Only ``hetero`` needs it.
    minimum
        Fewest images that a silo may get, never less than 1; ``hetero`` draws again until that holds.
    groups
        Group of each image, such as the patient: no group is in two silos. ``homo`` gives each group, in shuffled
        order, to the silo with fewest images; ``hetero`` takes a group for one of its most frequent class, cut where
        its first image is. A silo gets at least 3 groups, of which a split can be made, where there are no `splits`.
    splits
        The user's own split, ``train``, ``validation`` or ``test``: each is shared out for itself, with ``hetero`` by
        the same shares, and every silo gets some of each.

    Returns
    -------
    list of arrays
        Per silo, its ``int64`` positions in `labels`, rising.

    Raises
    ------
    DataError
        Unknown `method`, `alpha` not above 0, no silo, or a `minimum` that cannot be met, of images, groups or splits.
    """
    minimum = max(minimum, 1)
    _check_count(len(labels), silo_count, minimum)
    if method not in METHODS:
        raise DataError(f"partition_method {method!r} is not known; choose one of {', '.join(METHODS)}")
    if method == "hetero" and (alpha is None or not (alpha > 0 and math.isfinite(alpha))):
        raise DataError(f"partition_alpha is {alpha}; partition_method: hetero needs a finite number above 0")
    units = _Units.of(labels, groups, splits)
    rng = np.random.default_rng(seed)
    for _ in range(1 if method == "homo" else MAX_DRAWS):
        if method == "homo":
            parts = _deal(units, silo_count, rng)
        else:
            parts = _draw_dirichlet(units, silo_count, alpha or 0.0, rng)
        if not any(short := [units.shortage(part, minimum) for part in parts]):
            return [units.images(part) for part in parts]
    raise DataError(_lack(next(filter(None, short)), len(labels), silo_count, alpha if method == "hetero" else None))


def _lack(what: str, count: int, silo_count: int, alpha: float | None) -> str:
    if alpha is None:
        return (
            f"{count} images, shared out among {silo_count} silos, leave one with {what}; add images, or lower "
            "client_num_in_total or min_images_per_silo"
        )
    return (
        f"{MAX_DRAWS} Dirichlet draws with partition_alpha {alpha:g} left a silo with {what} "
        f"of the {count} images each time ({silo_count} silos); raise partition_alpha or lower "
        "min_images_per_silo"
    )


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

    def images(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of the images of some units, rising."""
        if self.members is None:
            return np.sort(units)
        return np.sort(np.concatenate([self.members[unit] for unit in units]))

    def shortage(self, units: NDArray[np.int64], minimum: int) -> str:
        """Say what a silo with these units lacks; empty when nothing."""
        if self.sizes[units].sum() < minimum:
            return f"fewer than {minimum}"
        if self.parts is not None:
            return "" if set(self.parts[units]) == set(PARTS) else f"none of one split ({', '.join(PARTS)})"
        few = self.members is not None and len(units) < len(PARTS)
        return f"fewer than {len(PARTS)} groups" if few else ""


def _deal(units: _Units, silo_count: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    dealt: list[list[NDArray[np.int64]]] = [[] for _ in range(silo_count)]
    filled = np.zeros(silo_count, dtype=np.int64)
    for stratum in units.strata():
        order = rng.permutation(stratum)
        if units.members is None:
            for silo, part in enumerate(np.array_split(order, silo_count)):
                dealt[silo].append(part)
            continue
        here = np.zeros(silo_count, dtype=np.int64)
        for unit in order:
            silo = int(np.lexsort((filled, here))[0])
            dealt[silo].append(np.array([unit]))
            here[silo] += units.sizes[unit]
            filled[silo] += units.sizes[unit]
    return [np.concatenate(part) if part else np.zeros(0, np.int64) for part in dealt]


def _check_count(count: int, silo_count: int, minimum: int) -> None:
    if silo_count < 1:
        raise DataError(f"client_num_in_total is {silo_count}; at least one silo is needed")
    if silo_count * minimum > count:
        raise DataError(
            f"{count} images cannot give each of {silo_count} silos {minimum}; add images, or lower "
            "client_num_in_total or min_images_per_silo"
        )


def _draw_dirichlet(units: _Units, silo_count: int, alpha: float, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    pieces: list[list[NDArray[np.int64]]] = [[] for _ in range(silo_count)]
    sizes = np.zeros(silo_count, dtype=np.int64)
    for label in np.unique(units.labels):
        strata = [rng.permutation(stratum) for stratum in units.strata(units.labels == label)]
        is_open = sizes < units.sizes.sum() / silo_count
        shares = rng.dirichlet(np.full(silo_count, alpha)) * is_open
        if not shares.sum() > 0:  # a very small alpha can give everything to a full silo, or underflow to NaN
            shares = is_open.astype(np.float64)
        for members in strata:
            own = units.sizes[members]
            cuts = (np.cumsum(shares / shares.sum()) * own.sum()).astype(np.int64)[:-1]
            places = np.searchsorted(cuts, np.cumsum(own) - own, side="right")
            for silo, piece in enumerate(pieces):
                piece.append(members[places == silo])
                sizes[silo] += own[places == silo].sum()
    return [np.concatenate(part) for part in pieces]
