"""Features and labels, as training and evaluation take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureSet:
    """Image features and their labels.

    Attributes
    ----------
    features
        ``[N, d]`` as the backbone gave them (not normalised).
    labels
        ``[N]`` int64, indices into the class list.
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield everything as one batch; FedML takes its sample input from the first batch of a data set."""
        yield self.features, self.labels

    def select(self, indices: npt.NDArray[np.int64]) -> FeatureSet:
        """Return the rows at ``indices``, in that order."""
        chosen = torch.as_tensor(indices)
        return FeatureSet(self.features[chosen], self.labels[chosen])

    def to(self, device: torch.device) -> FeatureSet:
        """Return the set on ``device``."""
        return FeatureSet(self.features.to(device), self.labels.to(device))


@dataclass(frozen=True)
class SiloFeatures:
    """One silo's train, validation and test splits."""

    train: FeatureSet
    validation: FeatureSet
    test: FeatureSet

    def to(self, device: torch.device) -> SiloFeatures:
        """Return the splits on ``device``."""
        return SiloFeatures(self.train.to(device), self.validation.to(device), self.test.to(device))
