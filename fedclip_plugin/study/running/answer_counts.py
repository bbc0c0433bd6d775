"""Answers as sums: how many images fall in each kind. This is all that a rank tells of its answers."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from fedclip_edge.metrics import confusion
from fedclip_edge.reliability import Reliability, bin_sums


class _Sums(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Kinds(_Sums):
    """How many images are alike in all that some federations answered; for the intervals.

    Attributes
    ----------
    gain
        Of each kind: how often an adapter was right, less how often zero-shot CLIP was.
    tried
        Of each kind: how many answers of adapters that is about; an image is tested in some federations only.
    images
        How many images are of the kind.
    """

    gain: tuple[int, ...]
    tried: tuple[int, ...]
    images: tuple[int, ...]

    @model_validator(mode="after")
    def _as_long_as_each_other(self) -> Self:
        if not len(self.gain) == len(self.tried) == len(self.images):
            raise ValueError("the columns of kinds are not equally long")
        return self

    @classmethod
    def of(cls, gain: ArrayLike, tried: ArrayLike, images: ArrayLike | None = None) -> Self:
        """Count images, or groups of ``images`` each, by their kinds: gain and number of answers."""
        rows, index = np.unique(np.stack([np.asarray(gain), np.asarray(tried)], 1), axis=0, return_inverse=True)
        counts = np.bincount(index.reshape(-1), None if images is None else np.asarray(images), len(rows))
        present = counts > 0
        columns = (rows[present, 0], rows[present, 1], counts[present])
        gains, tries, numbers = (tuple(int(value) for value in column) for column in columns)
        return cls(gain=gains, tried=tries, images=numbers)


class Counts(_Sums):
    """How many test images of one federation fall in each kind.

    Attributes
    ----------
    zero_shot_wrong, zero_shot_right
        Of the images that zero-shot CLIP has wrong, and right: how many are right with no adapter, with one, and so on.
        Two numbers each, except for a target domain on which every silo has an adapter of its own.
    """

    zero_shot_wrong: tuple[int, ...]
    zero_shot_right: tuple[int, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.zero_shot_wrong) != len(self.zero_shot_right) or len(self.zero_shot_right) < 2:
            raise ValueError("counts do not go from no adapter to all of them")
        return self

    @classmethod
    def of(cls, zero_shot: NDArray[np.int64], right: NDArray[np.int64], adapters: int) -> Self:
        """Count images.

        Parameters
        ----------
        zero_shot
            1 for each image that zero-shot CLIP has right, else 0, ``[N]``.
        right
            How many adapters have it right, ``[N]``.
        """
        wrong, good = (np.bincount(right[zero_shot == side], minlength=adapters + 1).tolist() for side in (0, 1))
        return cls(zero_shot_wrong=tuple(wrong), zero_shot_right=tuple(good))

    @property
    def adapters(self) -> int:
        """How many adapters answered."""
        return len(self.zero_shot_right) - 1

    @property
    def images(self) -> int:
        """How many images were tested."""
        return sum(self.zero_shot_wrong) + sum(self.zero_shot_right)

    def accuracy(self) -> float:
        """Return the share of the adapters' answers that are right."""
        by_number = np.add(self.zero_shot_wrong, self.zero_shot_right)
        return float((by_number * np.arange(self.adapters + 1)).sum() / (self.images * self.adapters))

    def zero_shot_accuracy(self) -> float:
        """Return the share of images that zero-shot CLIP has right."""
        return sum(self.zero_shot_right) / self.images

    def kinds(self) -> Kinds:
        """Return them as kinds."""
        numbers = np.arange(self.adapters + 1)
        gain = np.concatenate([numbers, numbers - self.adapters])
        return Kinds.of(gain, np.full(len(gain), self.adapters), [*self.zero_shot_wrong, *self.zero_shot_right])


class Pictured(_Sums):
    """What is drawn of one classifier's answers on the target domain.

    Attributes
    ----------
    confusion
        True class, answered class, number of images; pairs that do not occur are left out.
    counts, right, confidence
        For each bin of the confidence: images, right answers, and the sum of the confidences.
    """

    confusion: tuple[tuple[int, int, int], ...]
    counts: tuple[int, ...]
    right: tuple[int, ...]
    confidence: tuple[float, ...]

    @classmethod
    def of(cls, true: NDArray[np.int64], answered: NDArray[np.int64], confidence: NDArray[np.float64]) -> Self:
        """Sum up answers: true and answered classes and confidences, ``[N]`` each."""
        classes = int(max(true.max(), answered.max())) + 1
        matrix = confusion(true, answered, classes)
        rows = [(int(row), int(column), int(matrix[row, column])) for row, column in np.argwhere(matrix)]
        counts, right, sums = bin_sums(confidence, answered == true)
        return cls(confusion=tuple(rows), counts=counts.tolist(), right=right.tolist(), confidence=sums.tolist())

    def classes(self) -> int:
        """Return one more than the highest class that occurs."""
        return 1 + max(max(row[:2]) for row in self.confusion)

    def matrix(self, classes: int) -> NDArray[np.int64]:
        """Return the confusion matrix ``[C, C]``; row true class, column answer."""
        found = np.zeros((classes, classes), dtype=np.int64)
        for true, answered, count in self.confusion:
            found[true, answered] = count
        return found

    def reliability(self) -> Reliability:
        """Return how confidence and accuracy agree."""
        return Reliability.of_sums(*(np.asarray(part) for part in (self.counts, self.right, self.confidence)))


class Drawn(_Sums):
    """What is drawn of the answers on the target domain: zero-shot CLIP's, and the first adapter's."""

    zero_shot: Pictured
    selected: Pictured
