"""``class_split.json`` of a run folder: how adapters do on the classes that they trained on, and on the others."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, harmonic_mean
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedclip_plugin.runs.round_record import Number


class ClassAccuracy(NamedTuple):
    """Accuracies, fractions: base images among base names, new among new ones, images of all classes among all."""

    base: float
    new: float
    all: float

    @property
    def harmonic(self) -> float:
        """The harmonic mean of base and new."""
        return harmonic_mean([self.base, self.new])

    @classmethod
    def mean(cls, several: Iterable[ClassAccuracy]) -> Self:
        """Return the means of each by itself."""
        return cls(*map(fmean, zip(*several, strict=True)))


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ClassCounts(_Part):
    """How many test images are labelled rightly, of base classes and of new ones (``class_split: base_new``).

    Attributes
    ----------
    base_images, new_images
        How many there are of each.
    base, new
        Right answers: for images of base classes among base names, and for those of new classes among new names.
    all
        Right answers for all of the images among all names.
    """

    base_images: Number
    new_images: Number
    base: Number
    new: Number
    all: Number

    @model_validator(mode="after")
    def _no_more_than_images(self) -> Self:
        most = self.base_images, self.new_images, self.base_images + self.new_images
        if any(right > images for right, images in zip((self.base, self.new, self.all), most, strict=True)):
            raise ValueError("there are more right answers than images")
        return self

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(**{name: getattr(self, name) + getattr(other, name) for name in ClassCounts.model_fields})

    @property
    def accuracy(self) -> ClassAccuracy:
        """The accuracies; 0 for no images."""
        pairs = (
            (self.base, self.base_images),
            (self.new, self.new_images),
            (self.all, self.base_images + self.new_images),
        )
        return ClassAccuracy(*(right / max(images, 1) for right, images in pairs))


class ClassScores(_Part):
    """One adapter.

    Attributes
    ----------
    round
        The rounds behind it; None for zero-shot CLIP.
    sources
        By silo, its own test images; of a simulation by domain, or data set, those of all its clients.
    target
        The target domain's; None without one.
    """

    round: Number | None
    sources: Annotated[dict[str, ClassCounts], Field(min_length=1)]
    target: ClassCounts | None = None

    @property
    def source_mean(self) -> ClassAccuracy:
        """The means over the silos."""
        return ClassAccuracy.mean(own.accuracy for own in self.sources.values())


class ClassSplitRecord(_Part):
    """The whole file.

    Attributes
    ----------
    base, new
        The classes that the silos trained on, and the others, in label order.
    zero_shot
        CLIP without an adapter.
    adapters
        The best round's, and where it is another one the last round's.
    """

    base: tuple[str, ...]
    new: tuple[str, ...]
    zero_shot: ClassScores
    adapters: Annotated[tuple[ClassScores, ...], Field(min_length=1, max_length=2)]
