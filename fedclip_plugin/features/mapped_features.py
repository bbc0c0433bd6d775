"""Features of an image set in one file that all ranks of a host map into memory, so that there is one copy of them."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedclip_edge.files import replacing
from fedclip_plugin.errors import DataError
from fedclip_plugin.features.cache_parts import naming_cache, require_room
from fedclip_plugin.features.feature_set import FeatureSet

_SUFFIX = ".npy"


@dataclass(frozen=True)
class MappedFeatures:
    """Where features are kept for mapping; a file is never changed and is named after what it holds.

    A row of the file is an image: its features, then those of its augmented views, ``[N, 1 + K, d]`` float32.
    """

    folder: Path

    def write(self, data: FeatureSet) -> str:
        """Write features, unless a file holds the same already, and return its name.

        Raises
        ------
        DataError
            The disk has not the room, or the folder cannot be written.
        """
        rows = data.features[:, None]
        if data.views is not None:
            rows = torch.cat([rows, data.views], dim=1)
        content = np.ascontiguousarray(rows.float().numpy())
        name = hashlib.sha256(str(content.shape).encode() + content.data.cast("B")).hexdigest()[:32]
        path, head = self.folder / (name + _SUFFIX), _head(content)
        if path.is_file() and path.stat().st_size == len(head) + content.nbytes:
            return name
        require_room(self.folder, content.nbytes, "the features that ranks share")
        with naming_cache(self.folder), replacing(path) as stream:
            stream.write(head)
            stream.write(content.data.cast("B"))
        return name

    def read(self, name: str, labels: NDArray[np.int64]) -> FeatureSet:
        """Return features with the labels of their images; what is not looked at is never read from disk.

        Raises
        ------
        DataError
            There is no such file here, or it is of another number of images.
        """
        path = self.folder / (name + _SUFFIX)
        try:
            found = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DataError(
                f"the shared features {path} cannot be read ({error}): ranks of one host share a feature cache; give "
                "all of them the same fedclip_args.feature_cache_dir"
            ) from error
        if len(found) != len(labels):
            raise DataError(f"{path} holds {len(found):,} images instead of {len(labels):,}: remove it, start again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nobody writes to the tensor, and nobody could
            rows = torch.from_numpy(found)
        views = rows[:, 1:] if rows.shape[1] > 1 else None
        return FeatureSet(rows[:, 0], torch.from_numpy(labels), views)


def _head(content: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    write_header: Callable[..., None] = np.lib.format.write_array_header_1_0
    described = {"descr": content.dtype.str, "fortran_order": False, "shape": content.shape}
    write_header(stream, described)
    return stream.getvalue()
