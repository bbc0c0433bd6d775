"""The images of one silo, or of the target domain: names and labels, nothing decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Image files with their labels.

    Attributes
    ----------
    name
        The silo, or the target domain.
    root
        Folder that `files` are relative to.
    classes
        Class names; a label is an index into them.
    files
        ``<class>/<image>`` with forward slashes, ordered by class folder, then by file name, both by code
        point (the order of torchvision's ``ImageFolder``, which the reference's split rests on).
    labels
        ``int64`` of shape ``[N]``, one per file.
    ignored
        What lies in the folder and is not used: files with other suffixes, images beside the class folders.
        Hidden files and the operating systems' own are not listed.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    ignored: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def paths(self) -> list[Path]:
        """Return the full path of each image, in order."""
        return [self.root / file for file in self.files]

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> ImageSet:
        """Return the images at `indices`, positions in `files`, in that order, with the same classes, name and root."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(self, files=tuple(self.files[i] for i in chosen.tolist()), labels=self.labels[chosen])
