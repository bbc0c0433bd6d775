"""What a method takes in, with labels, as training and evaluation take them: features, or pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedclip_plugin.data import UnreadableImageError
from fedclip_plugin.features.text_features import TextFeatures

S = TypeVar("S", bound="InputSet", covariant=True)
Indices = npt.NDArray[np.int64] | Tensor


class Batch(NamedTuple):
    """Images as a method takes them in (features ``[B, d]``, or uint8 ``[B, 3, S, S]``), and their labels ``[B]``."""

    inputs: Tensor
    labels: Tensor


class InputSet(ABC):
    """Labelled images as a method takes them in; labels ``[N]`` are int64, indices into the class list."""

    labels: Tensor
    chunk: ClassVar[int]
    """Images that are evaluated at once."""

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Batch]:
        """Yield everything as one batch; FedML takes its sample input from the first batch of a data set."""
        yield self.batch(torch.arange(len(self)))

    def chunks(self) -> Iterator[Batch]:
        """Yield the set in order, in parts that are evaluated at once."""
        for start in range(0, len(self), self.chunk):
            yield self.batch(torch.arange(start, min(start + self.chunk, len(self))))

    def sample_views(self, rng: np.random.Generator) -> Self:
        """Return the set as one epoch sees it; where there are augmented views, of each image one."""
        return self

    def without_views(self) -> Self:
        """Return the images themselves, without augmented views."""
        return self

    @abstractmethod
    def batch(self, indices: Indices) -> Batch:
        """Return a copy of the images at ``indices``, in that order."""

    @abstractmethod
    def subset(self, indices: Indices) -> Self:
        """Return the set of the images at ``indices``, in that order."""

    @abstractmethod
    def to(self, device: torch.device) -> Self:
        """Return the set on ``device``."""

    @abstractmethod
    def text_beside(self, text: TextFeatures) -> TextFeatures:
        """Return text features where this set is worked on, and in its type."""


@dataclass(frozen=True)
class FeatureSet(InputSet):
    """Images as the frozen backbone sees them."""

    features: Tensor  # ``[N, d]`` as the backbone gave them (not normalised)
    labels: Tensor
    views: Tensor | None = None  # of K augmented views of each image, ``[N, K, d]``, to train on
    chunk: ClassVar[int] = 16384

    def batch(self, indices: Indices) -> Batch:
        """Return a copy of the images at ``indices``, in that order."""
        chosen = torch.as_tensor(indices)
        return Batch(self.features[chosen.to(self.features.device)], self.labels[chosen])

    def chunks(self) -> Iterator[Batch]:
        """Yield the set in order, in parts that are evaluated at once; they share its memory."""
        for start in range(0, len(self), self.chunk):
            part = slice(start, start + self.chunk)
            yield Batch(self.features[part], self.labels[part])

    def sample_views(self, rng: np.random.Generator) -> FeatureSet:
        """Return the set as one epoch sees it: of each image itself or one of its views, each with equal chance."""
        if self.views is None:
            return self
        choices = torch.from_numpy(rng.integers(self.views.shape[1] + 1, size=len(self))).to(self.features.device)
        every = torch.cat([self.features[:, None], self.views], dim=1)
        return FeatureSet(every[torch.arange(len(self), device=choices.device), choices], self.labels)

    def without_views(self) -> FeatureSet:
        """Return the images themselves, without augmented views."""
        return FeatureSet(self.features, self.labels)

    def subset(self, indices: Indices) -> FeatureSet:
        """Return the set of the images at ``indices``, in that order."""
        return FeatureSet(*self.batch(indices), None if self.views is None else self.views[torch.as_tensor(indices)])

    def to(self, device: torch.device) -> FeatureSet:
        """Return the set on ``device``."""
        views = None if self.views is None else self.views.to(device)
        return FeatureSet(self.features.to(device), self.labels.to(device), views)

    def text_beside(self, text: TextFeatures) -> TextFeatures:
        """Return text features on the device and in the type of these."""
        return text.to(self.features)


@dataclass(frozen=True)
class PixelSet(InputSet):
    """Images as methods on pixels take them; they stay where they are, on disk perhaps, until a batch is taken."""

    pixels: Tensor  # uint8 ``[M, 3, S, S]``, of these images and perhaps of others
    labels: Tensor
    rows: Tensor  # which of them the N images are, ``[N]``
    chunk: ClassVar[int] = 64

    def batch(self, indices: Indices) -> Batch:
        """Return a copy of the images at ``indices``, in that order; methods move it to their device."""
        chosen = torch.as_tensor(indices)
        return Batch(self.pixels[self.rows[chosen.to(self.rows.device)]], self.labels[chosen])

    def subset(self, indices: Indices) -> PixelSet:
        """Return the set of the images at ``indices``, in that order."""
        chosen = torch.as_tensor(indices)
        return PixelSet(self.pixels, self.labels[chosen], self.rows[chosen])

    def to(self, device: torch.device) -> PixelSet:
        """Return the set with its labels on ``device``."""
        return PixelSet(self.pixels, self.labels.to(device), self.rows)

    def text_beside(self, text: TextFeatures) -> TextFeatures:
        """Return text features on the device of the labels."""
        return TextFeatures(text.features.to(self.labels.device), text.logit_scale)


@dataclass(frozen=True)
class SiloFeatures:
    """One silo's train, validation and test splits."""

    train: InputSet
    validation: InputSet
    test: InputSet
    test_positions: npt.NDArray[np.int64] | None = None  # which of the silo's readable images those of the test are

    def __len__(self) -> int:
        return len(self.train) + len(self.validation) + len(self.test)

    def to(self, device: torch.device) -> SiloFeatures:
        """Return the splits on ``device``."""
        train, validation, test = (part.to(device) for part in (self.train, self.validation, self.test))
        return SiloFeatures(train, validation, test, self.test_positions)


@dataclass(frozen=True)
class EncodedImages(Generic[S]):
    """What was made of an image set."""

    data: S  # features or pixels, and labels, of the readable images
    kept: list[int]  # indices of the readable images in the image set, ``[N]``
    faults: list[UnreadableImageError]  # one error for each unreadable image
    encoded: int  # how many were encoded or cropped just now, views included; the others came from the cache
    digests: Sequence[str] = ()  # of crops: the SHA-256 of each readable image's file, ``[N]``
