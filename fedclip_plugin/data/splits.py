"""The reference's split of a silo's images into train, validation and test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the images of each part, ``[n]`` int64; no position is in two parts."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


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
    order = np.arange(count, dtype=np.int64)
    np.random.RandomState(seed).shuffle(order)
    sizes = sizes_60_20_20(count)
    ends = np.cumsum([sizes["train"], sizes["validation"], sizes["test"]])
    train, validation, test, _ = np.split(order, ends)
    return Split(train, validation, test)


def sizes_60_20_20(count: int) -> dict[str, int]:
    """Return how many of ``count`` images are in ``train``, ``validation`` and ``test``."""
    part = int(count * 0.2)
    return {"train": int(count * 0.6), "validation": part, "test": part}
