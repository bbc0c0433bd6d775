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
        Of folders ``<class>/<image>`` with forward slashes, ordered by class folder, then by file name, both by code
        point (the order of torchvision's ``ImageFolder``, which the reference's split rests on). Of a list the names
        in it, in its order; they may be absolute.
    labels
        ``int64`` of shape ``[N]``, one per file.
    ignored
        What lies in the folder and is not used: files with other suffixes, images beside the class folders.
        Hidden files and the operating systems' own are not listed.
    groups
        What must stay together in one split, such as the patient, ``[N]``; None: every image is its own.
    splits
        The user's own split, ``train``, ``validation`` or ``test``, ``[N]``; None: the run makes one.
    notes
        What is to be said of the set before it is used, a line each.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    ignored: tuple[str, ...] = ()
    groups: NDArray[np.str_] | None = None
    splits: NDArray[np.str_] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def paths(self) -> list[Path]:
        """Return the full path of each image, in order."""
        return [self.root / file for file in self.files]

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> ImageSet:
        """Return the images at `indices`, positions in `files`, in that order; all else stays."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            files=tuple(self.files[i] for i in chosen.tolist()),
            labels=self.labels[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            splits=None if self.splits is None else self.splits[chosen],
        )
