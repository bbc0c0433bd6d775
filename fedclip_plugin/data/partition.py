"""Share the images of one folder out among silos: evenly, or with Dirichlet label skew."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.errors import DataError

METHODS: tuple[str, ...] = ("hetero", "homo")
"""FedML's values of ``partition_method`` that are supported."""

MAX_DRAWS: int = 1000
"""Dirichlet draws that are tried before a minimum per silo is given up."""


def partition(
    labels: NDArray[np.int64], silo_count: int, method: str, alpha: float | None, minimum: int, seed: int
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

    Returns
    -------
    list of arrays
        Per silo, its ``int64`` positions in `labels`, rising.

    Raises
    ------
    DataError
        Unknown `method`, `alpha` not above 0, no silo, or a `minimum` that cannot be met.
    """
    minimum = max(minimum, 1)
    _check_count(len(labels), silo_count, minimum)
    if method not in METHODS:
        raise DataError(f"partition_method {method!r} is not known; choose one of {', '.join(METHODS)}")
    rng = np.random.default_rng(seed)
    if method == "homo":
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), silo_count)]
    if alpha is None or not (alpha > 0 and math.isfinite(alpha)):
        raise DataError(f"partition_alpha is {alpha}; partition_method: hetero needs a finite number above 0")
    for _ in range(MAX_DRAWS):
        parts = _draw_dirichlet(labels, silo_count, alpha, rng)
        if min(len(part) for part in parts) >= minimum:
            return parts
    raise DataError(
        f"{MAX_DRAWS} Dirichlet draws with partition_alpha {alpha:g} left a silo with fewer than {minimum} "
        f"of the {len(labels)} images each time ({silo_count} silos); raise partition_alpha or lower "
        "min_images_per_silo"
    )


def _check_count(count: int, silo_count: int, minimum: int) -> None:
    if silo_count < 1:
        raise DataError(f"client_num_in_total is {silo_count}; at least one silo is needed")
    if silo_count * minimum > count:
        raise DataError(
            f"{count} images cannot give each of {silo_count} silos {minimum}; add images, or lower "
            "client_num_in_total or min_images_per_silo"
        )


def _draw_dirichlet(
    labels: NDArray[np.int64], silo_count: int, alpha: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    pieces: list[list[NDArray[np.int64]]] = [[] for _ in range(silo_count)]
    sizes = np.zeros(silo_count, dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        is_open = sizes < len(labels) / silo_count
        shares = rng.dirichlet(np.full(silo_count, alpha)) * is_open
        if not shares.sum() > 0:  # a very small alpha can give everything to a full silo, or underflow to NaN
            shares = is_open.astype(np.float64)
        cuts = (np.cumsum(shares / shares.sum()) * len(members)).astype(np.int64)[:-1]
        for silo, piece in enumerate(np.split(members, cuts)):
            pieces[silo].append(piece)
            sizes[silo] += len(piece)
    return [np.sort(np.concatenate(part)) for part in pieces]
