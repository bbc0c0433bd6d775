"""What was answered for each image, packed small: base64 of little-endian 16-bit numbers."""

from __future__ import annotations

import base64
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, model_validator

_TOP = 65535
"""What probability 1 is packed as."""

Labels = NDArray[np.int64]


def pack(numbers: ArrayLike, width: str = "<u2") -> str:
    """Pack whole numbers as text.

    Parameters
    ----------
    numbers
        ``[N]``, each within the width.
    width
        ``<u2`` or, for positions among many images, ``<u4``.

    Returns
    -------
    str
        Base64.

    Raises
    ------
    ValueError
        When a number does not fit.
    """
    array = np.asarray(numbers)
    if array.size and (array.min() < 0 or array.max() > np.iinfo(width).max):
        raise ValueError(f"numbers from {array.min()} to {array.max()} do not fit into {np.iinfo(width).bits} bits")
    return base64.b64encode(array.astype(width).tobytes()).decode()


def unpack(text: str, width: str = "<u2") -> Labels:
    """Return what :func:`pack` packed, as ``int64`` ``[N]``.

    Raises
    ------
    ValueError
        When the text is no base64, or torn.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=width).astype(np.int64)


class Answers(BaseModel):
    """The answers for one set of images, in a fixed order of images; make one with :meth:`of`.

    Attributes
    ----------
    true
        Label of each image.
    zero_shot
        Label that zero-shot CLIP gives.
    selected
        Labels that the selected round gives, a row an adapter: one, or one a silo without federation.
    confidence, zero_shot_confidence
        Probability of those labels; None where it was not kept.
    positions
        Which image of its silo each one is; a silo's test split is another one with another seed. None: all images
        in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    true: str
    zero_shot: str
    selected: tuple[str, ...]
    confidence: tuple[str, ...] | None = None
    zero_shot_confidence: str | None = None
    positions: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        count = len(self.labels())
        rows = [self.zero_shot, *self.selected, *(self.confidence or ())]
        rows += [self.zero_shot_confidence] if self.zero_shot_confidence is not None else []
        if any(len(unpack(row)) != count for row in rows) or len(self.ids()) != count or not self.selected:
            raise ValueError(f"the rows of answers do not all hold {count} images")
        return self

    @classmethod
    def of(
        cls,
        true: ArrayLike,
        zero_shot: ArrayLike,
        selected: ArrayLike,
        confidence: ArrayLike | None = None,
        zero_shot_confidence: ArrayLike | None = None,
        positions: ArrayLike | None = None,
    ) -> Self:
        """Pack answers.

        Parameters
        ----------
        true, zero_shot
            Labels, ``[N]``.
        selected
            Labels, ``[A, N]`` of A adapters.
        confidence, zero_shot_confidence
            Probabilities from 0 to 1, ``[A, N]`` and ``[N]``.
        positions
            Which image of its silo each one is, ``[N]``.
        """
        return cls(
            true=pack(true),
            zero_shot=pack(zero_shot),
            selected=tuple(pack(row) for row in np.atleast_2d(selected)),
            confidence=None if confidence is None else tuple(_shares(row) for row in np.atleast_2d(confidence)),
            zero_shot_confidence=None if zero_shot_confidence is None else _shares(zero_shot_confidence),
            positions=None if positions is None else pack(positions, "<u4"),
        )

    def labels(self) -> Labels:
        """Return the true labels, ``[N]``."""
        return unpack(self.true)

    def ids(self) -> Labels:
        """Return which image of its domain each one is, ``[N]``."""
        return np.arange(len(self.labels())) if self.positions is None else unpack(self.positions, "<u4")

    def predicted(self) -> Labels:
        """Return the labels of the selected round, ``[A, N]``."""
        return np.stack([unpack(row) for row in self.selected])

    def correct(self) -> NDArray[np.float64]:
        """Return for each image the share of adapters that label it correctly, ``[N]``."""
        share: NDArray[np.float64] = (self.predicted() == self.labels()).mean(0)
        return share

    def zero_shot_correct(self) -> NDArray[np.float64]:
        """Return 1 for each image that zero-shot CLIP labels correctly, else 0, ``[N]``."""
        return np.asarray(unpack(self.zero_shot) == self.labels(), dtype=np.float64)

    def probabilities(self) -> NDArray[np.float64] | None:
        """Return the probability of the selected round's labels, ``[A, N]``; None where it was not kept."""
        return None if self.confidence is None else np.stack([_probabilities(row) for row in self.confidence])

    def zero_shot_probabilities(self) -> NDArray[np.float64] | None:
        """Return the probability of zero-shot CLIP's labels, ``[N]``; None where it was not kept."""
        return None if self.zero_shot_confidence is None else _probabilities(self.zero_shot_confidence)


def _shares(probabilities: ArrayLike) -> str:
    return pack(np.rint(np.asarray(probabilities, dtype=np.float64) * _TOP))


def _probabilities(text: str) -> NDArray[np.float64]:
    return np.asarray(unpack(text) / _TOP, dtype=np.float64)
