"""What a method takes in, with labels, as training and evaluation take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedclip_plugin.data import UnreadableImageError

_CHUNK_FEATURES, _CHUNK_IMAGES = 16384, 64


@dataclass(frozen=True)
class FeatureSet:
    """Images as a method takes them in, and their labels.

    Attributes
    ----------
    features
        ``[N, d]`` as the backbone gave them (not normalised); for methods on pixels uint8 images ``[N, 3, S, S]``.
    labels
        ``[N]`` int64, indices into the class list.
    rows
        Which rows of ``features`` the N images are; None for all of them.
    views
        Features of K augmented views of each image, ``[N, K, d]``, to train on; None where there are none.
    """

    features: Tensor
    labels: Tensor

    rows: Tensor | None = None
    views: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield everything as one batch; FedML takes its sample input from the first batch of a data set."""
        whole = self.select(torch.arange(len(self)))
        yield whole.features, whole.labels

    def select(self, indices: npt.NDArray[np.int64] | Tensor) -> FeatureSet:
        """Return a copy of the images at ``indices``, in that order."""
        chosen = torch.as_tensor(indices)
        rows = chosen if self.rows is None else self.rows[chosen.to(self.rows.device)]
        return FeatureSet(self.features[rows.to(self.features.device)], self.labels[chosen])

    def drawn(self, rng: np.random.Generator) -> FeatureSet:
        """Return the set as one epoch sees it: of each image itself or one of its views, each with equal chance."""
        if self.views is None:
            return self
        choices = torch.from_numpy(rng.integers(self.views.shape[1] + 1, size=len(self))).to(self.features.device)
        every = torch.cat([self.features[:, None], self.views], dim=1)
        return FeatureSet(every[torch.arange(len(self), device=choices.device), choices], self.labels)

    def subset(self, indices: npt.NDArray[np.int64]) -> FeatureSet:
        """Return the images at ``indices``, in that order; pixels stay where they are, on disk perhaps."""
        chosen = torch.as_tensor(indices)
        if self.features.is_floating_point():
            views = None if self.views is None else self.views[chosen]
            return replace(self.select(chosen), views=views)
        rows = chosen if self.rows is None else self.rows[chosen]
        return FeatureSet(self.features, self.labels[chosen], rows)

    def chunks(self) -> Iterator[FeatureSet]:
        """Yield the set in order, in parts that are evaluated at once."""
        size = _CHUNK_FEATURES if self.features.is_floating_point() else _CHUNK_IMAGES
        for start in range(0, len(self), size):
            yield self.select(torch.arange(start, min(start + size, len(self))))

    def to(self, device: torch.device) -> FeatureSet:
        """Return the set on ``device``; pixels stay where they are, methods move each batch."""
        moved = self.features.to(device) if self.features.is_floating_point() else self.features
        views = None if self.views is None else self.views.to(device)
        return FeatureSet(moved, self.labels.to(device), self.rows, views)


@dataclass(frozen=True)
class SiloFeatures:
    """One silo's train, validation and test splits."""

    train: FeatureSet
    validation: FeatureSet
    test: FeatureSet

    def __len__(self) -> int:
        return len(self.train) + len(self.validation) + len(self.test)

    def to(self, device: torch.device) -> SiloFeatures:
        """Return the splits on ``device``."""
        return SiloFeatures(self.train.to(device), self.validation.to(device), self.test.to(device))


@dataclass(frozen=True)
class EncodedImages:
    """What a method takes in of an image set.

    Attributes
    ----------
    data
        Features or pixels, and labels, of the readable images.
    kept
        Indices of the readable images in the image set, ``[N]``.
    faults
        One error for each unreadable image.
    encoded
        How many images were encoded or cropped just now; the others came from the cache.
    """

    data: FeatureSet
    kept: list[int]
    faults: list[UnreadableImageError]
    encoded: int
