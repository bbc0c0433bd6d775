"""What crosses after the last round, about best and last adapter: sums over a silo's images, and no answer for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class ScoreAdapter:
    """The server asks how likely the labels of a silo's validation images are.

    Attributes
    ----------
    adapter
        Parameters by name, of the best or of the last round.
    """

    adapter: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class CountConfidences:
    """The server asks for the confidences of the same adapter's answers.

    Attributes
    ----------
    temperature
        What logits are divided by: the one that fits all silos' validation images together.
    """

    temperature: float


@dataclass(frozen=True)
class ScoreClasses:
    """The server asks how many images of base and of new classes are labelled rightly (``class_split: base_new``).

    Attributes
    ----------
    adapter
        Parameters by name, of the best or of the last round; none for zero-shot CLIP.
    """

    adapter: Mapping[str, NDArray[Any]] | None


@dataclass(frozen=True)
class NoMoreQuestions:
    """The server has asked all that it asks."""


@dataclass(frozen=True)
class Likelihoods:
    """How likely the labels of a silo's validation images are.

    Attributes
    ----------
    images
        How many there are.
    losses
        Their summed negative log likelihood at each of 41 fixed temperatures, in millionths.
    """

    images: int
    losses: tuple[int, ...]


@dataclass(frozen=True)
class BinSums:
    """The confidences of the answers for a silo's test images, in 15 bins.

    Attributes
    ----------
    counts, right, confidence
        Of each bin: images, right answers, and the sum of the confidences in millionths.
    """

    counts: tuple[int, ...]
    right: tuple[int, ...]
    confidence: tuple[int, ...]


@dataclass(frozen=True)
class ConfidenceCounts:
    """The confidences of the answers for a silo's images.

    Attributes
    ----------
    validation, test
        How many images of the split have a confidence in each of 440 bins of its log-odds: from these sums the
        threshold of all silos is chosen, and told how many test images are below it.
    before, after
        A `BinSums` of the test images, without the temperature and with it.
    """

    validation: tuple[int, ...]
    test: tuple[int, ...]
    before: BinSums
    after: BinSums
