"""Cropped images for methods on pixels: written to disk once, then mapped into memory, never loaded whole."""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fedclip_edge.files import replacing
from fedclip_edge.sample_range import SampleRange
from fedclip_plugin.backbone.preprocessing import Preprocessing
from fedclip_plugin.data import ImageSet
from fedclip_plugin.features.cache_parts import naming_cache, require_room
from fedclip_plugin.features.encoding import Batch, Progress, read_files
from fedclip_plugin.features.feature_set import EncodedImages, PixelSet
from fedclip_plugin.features.image_files import ImageFiles, image_set_hash, range_key

logger = logging.getLogger(__name__)

Block = tuple[Sequence[str], NDArray[np.uint8]]
"""Digests of B files and the levels of their images, ``[B, 3, S, S]``."""

_START = 512  # bytes kept for the file's header, which is written last
_BLOCK = 256
_BATCH = 64  # images decoded between two writes


@dataclass(frozen=True)
class Crops:
    """Images resized and cropped as CLIP sees them, in a file that is mapped into memory."""

    levels: Tensor  # uint8 ``[M, 3, S, S]``; only rows that are looked at are read from disk
    rows: Mapping[str, int]  # a file's digest to the row of its image

    def blocks(self, keys: Sequence[str]) -> Iterator[Block]:
        """Yield the images ``keys`` in blocks that fit into memory."""
        for start in range(0, len(keys), _BLOCK):
            part = keys[start : start + _BLOCK]
            yield part, self.levels[torch.tensor([self.rows[key] for key in part])].numpy()


class PixelCache:
    """Crops of one backbone's preprocessing, in one folder: a safetensors file an image set.

    A file is never changed, a new one takes its place: two ranks may write at once, and who has mapped the old one
    keeps it. A corrupt file is reported and made again.
    """

    def __init__(self, folder: Path, sample_range: SampleRange | None = None) -> None:
        self.folder, self.sample_range = folder, sample_range

    def path(self, images: ImageSet) -> Path:
        """Return where the crops of ``images`` are kept."""
        return self.folder / f"{image_set_hash(images, *range_key(self.sample_range))}.safetensors"

    def read(self, path: Path) -> Crops:
        """Return what is in the file, checked; nothing when there is none, or none that is intact."""
        if path.exists():
            try:
                return _map(path)
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                logger.warning("pixel cache %s is corrupt (%s): making it again", path, error)
        return Crops(torch.empty(0, dtype=torch.uint8), {})

    def require_room(self, images: ImageSet, count: int, side: int) -> None:
        """See that ``count`` images of side S fit on the disk, before any is decoded; a DataError when they do not."""
        what = f"{images.name}: {count:,} images of {side} x {side} pixels, which the method trains on,"
        remedy = ", or take a method that trains on features"
        require_room(self.folder, count * 3 * side * side, what, remedy)

    def write(self, path: Path, side: int, blocks: Iterable[Block]) -> Crops:
        """Write the crops of an image set, of side S, as they come, and return them.

        A full disk, or a folder that cannot be written, is a DataError; the old file is untouched then.
        """
        keys: list[str] = []
        with naming_cache(self.folder), replacing(path) as stream:
            stream.write(bytes(_START))
            checksum = 0
            for names, block in blocks:
                content = np.ascontiguousarray(block).reshape(-1)
                stream.write(content.data)
                checksum = zlib.crc32(content.data, checksum)
                keys += names
            note = json.dumps(keys).encode()
            stream.write(note)
            stream.seek(0)
            stream.write(_header([len(keys), 3, side, side], len(note), zlib.crc32(note, checksum)))
            stream.flush()
            return _map(Path(stream.name))  # before another rank's file can take the place of this one


def cropped(
    cache: PixelCache,
    backbone: Path,
    files: ImageFiles,
    skip_bad: bool,
    workers: int,
    on_progress: Progress,
    device: torch.device,
) -> EncodedImages[PixelSet]:
    """Return the pixels of an image set, decoding only what is not cached; the backbone's folder is read only for that.

    Parameters and errors are those of :meth:`~fedclip_plugin.features.feature_source.FeatureSource.images`; a disk
    without room is a DataError too.
    """
    images = files.images
    crops = cache.read(cache.path(images))
    missing = files.missing(crops.rows)
    if missing:
        crops = _write(cache, crops, files, missing, Preprocessing(backbone), workers, on_progress, device)
        files.remember()
    kept, faults = files.judge(crops.rows, skip_bad)
    digests = [files.digest(images.files[index]) or "" for index in kept]
    rows = torch.tensor([crops.rows[digest] for digest in digests])
    data = PixelSet(crops.levels, torch.from_numpy(images.labels[kept]), rows)
    return EncodedImages(data, kept, faults, sum(files.digest(name) in crops.rows for name in missing), digests)


def read_crops(crops: EncodedImages[PixelSet], digests: Sequence[str], batch_size: int) -> Iterator[Batch]:
    """Yield crops as `read_files` yields what it sees of the files with these digests, which are among the crops."""
    rows = dict(zip(crops.digests, crops.data.rows.tolist(), strict=True))
    for start in range(0, len(digests), batch_size):
        own = dict(enumerate(digests[start : start + batch_size], start))
        levels = crops.data.pixels[torch.tensor([rows[digest] for digest in own.values()])].numpy()
        yield Batch({index: [level] for index, level in zip(own, np.moveaxis(levels, 1, -1), strict=True)}, own, {})


def _write(
    cache: PixelCache,
    crops: Crops,
    files: ImageFiles,
    missing: Sequence[str],
    preprocessing: Preprocessing,
    workers: int,
    on_progress: Progress,
    device: torch.device,
) -> Crops:
    """Write a new file of what is still true of the old one and of what is missing there."""
    current, side = files.digests(), preprocessing.side
    still = [digest for digest in crops.rows if digest in current]
    cache.require_room(files.images, len(still) + len(missing), side)

    def _decoded() -> Iterator[Block]:
        paths, see = files.paths(missing), preprocessing.see()
        for batch in read_files(see, paths, _BATCH, workers, cache.sample_range, device):
            files.note(missing, batch)
            if batch.arrays:
                levels = np.stack([own for (own,) in batch.arrays.values()])
                yield list(batch.digests.values()), np.moveaxis(levels, -1, 1)
            on_progress(len(batch.arrays) + len(batch.faults))

    return cache.write(cache.path(files.images), side, chain(crops.blocks(still), _decoded()))


def _header(shape: Sequence[int], note: int, checksum: int) -> bytes:
    """Return the first bytes of a safetensors file that holds levels of ``shape`` and then ``note`` bytes."""
    end = int(np.prod(shape))
    header = {
        "__metadata__": {"crc32": str(checksum)},
        "levels": {"dtype": "U8", "shape": shape, "data_offsets": [0, end]},
        "note": {"dtype": "U8", "shape": [note], "data_offsets": [end, end + note]},
    }
    text = json.dumps(header).encode().ljust(_START - 8)
    return struct.pack("<Q", len(text)) + text


def _map(path: Path) -> Crops:
    with safe_open(path, framework="pt") as stream:  # torch maps the file, numpy would copy it
        levels, note = stream.get_tensor("levels"), stream.get_tensor("note").numpy().tobytes()
        told = (stream.metadata() or {}).get("crc32")
    if told != str(zlib.crc32(note, zlib.crc32(levels.reshape(-1).numpy().data))):
        raise ValueError("its checksum differs")
    return Crops(levels, {key: row for row, key in enumerate(json.loads(note))})
