"""Images as methods on pixels take them: resized and cropped once, kept on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from fedclip_plugin.backbone.preprocessing import Preprocessing
from fedclip_plugin.features.crop_cache import Block, Crops, PixelCache
from fedclip_plugin.features.encoding import Progress, read_files
from fedclip_plugin.features.feature_set import EncodedImages, PixelSet
from fedclip_plugin.features.image_files import ImageFiles

_BATCH = 64  # images decoded between two writes


def cropped(
    cache: PixelCache,
    backbone: Path,
    files: ImageFiles,
    skip_bad: bool,
    workers: int,
    on_progress: Progress,
) -> EncodedImages[PixelSet]:
    """Return the pixels of an image set, decoding only what is not cached; the backbone's folder is read only for that.

    Parameters and errors are those of :meth:`~fedclip_plugin.features.feature_source.FeatureSource.images`; a disk
    without room is a DataError too.
    """
    images = files.images
    crops = cache.read(cache.path(images))
    missing = files.missing(crops.rows)
    if missing:
        crops = _write(cache, crops, files, missing, Preprocessing(backbone), workers, on_progress)
        files.remember()
    kept, faults = files.judge(crops.rows, skip_bad)
    rows = torch.tensor([crops.rows[files.digest(images.files[index]) or ""] for index in kept])
    data = PixelSet(crops.levels, torch.from_numpy(images.labels[kept]), rows)
    return EncodedImages(data, kept, faults, sum(files.digest(name) in crops.rows for name in missing))


def _write(
    cache: PixelCache,
    crops: Crops,
    files: ImageFiles,
    missing: Sequence[str],
    preprocessing: Preprocessing,
    workers: int,
    on_progress: Progress,
) -> Crops:
    """Write a new file of what is still true of the old one and of what is missing there."""
    current, side = files.digests(), preprocessing.side
    still = [digest for digest in crops.rows if digest in current]
    cache.require_room(files.images, len(still) + len(missing), side)

    def _decoded() -> Iterator[Block]:
        for batch in read_files(preprocessing.crop, files.paths(missing), _BATCH, workers):
            files.note(missing, batch)
            if batch.arrays:
                yield list(batch.digests.values()), np.stack(list(batch.arrays.values()))
            on_progress(len(batch.arrays) + len(batch.faults))

    return cache.write(cache.path(files.images), side, chain(crops.blocks(still), _decoded()))
