"""Images as methods on pixels take them: resized and cropped once, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from fedclip_plugin.backbone.preprocessing import Preprocessing
from fedclip_plugin.data import ImageSet
from fedclip_plugin.features.encode import read_files
from fedclip_plugin.features.encoded_images import EncodedImages
from fedclip_plugin.features.feature_set import FeatureSet
from fedclip_plugin.features.inventory import Inventory
from fedclip_plugin.features.pixel_cache import Block, Crops, PixelCache

_BATCH = 64  # images decoded between two writes


def cropped(
    cache: PixelCache,
    backbone: Path,
    images: ImageSet,
    skip_bad: bool,
    workers: int,
    on_progress: Callable[[int], None],
) -> EncodedImages:
    """Return the pixels of an image set, decoding only what is not cached.

    Parameters
    ----------
    cache
        Where crops of this backbone's preprocessing are kept.
    backbone
        Its folder; read only when something has to be decoded.
    images, skip_bad, on_progress
        As for :meth:`FeatureSource.images <fedclip_plugin.features.source.FeatureSource.images>`.
    workers
        Decoding threads.

    Raises
    ------
    DataError
        When an image is unreadable and ``skip_bad`` is off, when no image is readable, or when the disk has no room.
    """
    crops = cache.read(cache.path(images))
    inventory = Inventory(images, crops.unreadable)
    missing = inventory.missing(crops.rows)
    if missing:
        crops = _write(cache, crops, inventory, missing, Preprocessing(backbone), workers, on_progress)
    kept, faults = inventory.judge(crops.rows, skip_bad)
    rows = torch.tensor([crops.rows[inventory.keys[index]] for index in kept])
    data = FeatureSet(crops.levels, torch.from_numpy(images.labels[kept]), rows)
    return EncodedImages(data, kept, faults, sum(key in crops.rows for key in missing))


def _write(
    cache: PixelCache,
    crops: Crops,
    inventory: Inventory,
    missing: Sequence[str],
    preprocessing: Preprocessing,
    workers: int,
    on_progress: Callable[[int], None],
) -> Crops:
    """Write a new file of what is still true of the old one and of what is missing there."""
    still, side = [key for key in inventory.keys if key in crops.rows], preprocessing.side
    cache.require_room(inventory.images, len(still) + len(missing), side)

    def _decoded() -> Iterator[Block]:
        for good, bad in read_files(preprocessing.crop, inventory.paths(missing), _BATCH, workers):
            inventory.note({missing[index]: error for index, error in bad.items()})
            if good:
                yield [missing[index] for index in good], np.stack(list(good.values()))
            on_progress(len(good) + len(bad))

    blocks = chain(crops.blocks(still), _decoded())
    return cache.write(cache.path(inventory.images), side, blocks, inventory.lasting)
