"""A message that is about to leave a silo, as policy and log see it; which kinds of messages there are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Kind:
    """One kind of message.

    Attributes
    ----------
    trains
        Whether it carries what was made from training images in a round.
    masked
        Whether it means nothing by itself: only the sum of all silos' can be read.
    class_counts, kind_counts
        Whether it tells how many images are of each class, or of each kind of answer.
    """

    trains: bool = False
    masked: bool = False
    class_counts: bool = False
    kind_counts: bool = False


KINDS: Mapping[str, Kind] = {
    "Present": Kind(),
    "RankMemory": Kind(),
    "Room": Kind(),
    "Ready": Kind(),
    "Encoded": Kind(),
    "status": Kind(),
    "report": Kind(),
    "update": Kind(trains=True),
    "sums": Kind(trains=True, class_counts=True),
    "masked update": Kind(trains=True, masked=True),
    "masked sums": Kind(trains=True, masked=True),
    "trials": Kind(),
    "interpolations": Kind(),
    "Likelihoods": Kind(kind_counts=True),
    "ConfidenceCounts": Kind(kind_counts=True),
    "ClassCounts": Kind(class_counts=True),
    "CellPart": Kind(kind_counts=True),
    "Joint": Kind(kind_counts=True),
}
"""Every kind that a silo sends, by name: those before training (``RankMemory`` to the first rank on its machine),
FedML's, those after it, those of a study. The type of the message gives the name; of FedML's: ``status`` (a silo is
there, or says goodbye), ``report`` (it has evaluated), ``update``, ``sums`` (of a closed-form method), both also masked
(with ``secure_sums``), ``trials`` (right answers and losses of solutions) and ``interpolations`` (right answers of
``wise``)."""


class TensorInfo(NamedTuple):
    """Name, shape and type of a tensor that leaves."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Outgoing:
    """A message that is about to leave.

    Attributes
    ----------
    kind
        One of :data:`KINDS`.
    parts
        The bytes that travel, in order; none before it is packed.
    round
        Of what was trained: the round, counted from 1; else the rounds behind the adapter; None outside of training.
    tensors
        What they hold of tensors.
    norm
        Euclidean norm of an update: what the server will see, less the adapter that had come; of a masked one, of the
        update before it was masked. None for all else, and where it is no finite number.
    epsilon
        What the silo has spent of differential privacy with this message; None where it has none.
    delta
        The delta of which that is; None where it has none.
    account
        Name of the count of which that is: a run that is begun anew has another; None where it has none.
    class_counts
        Of sums: images of each class.
    only_fault
        Whether it says that the silo cannot take part, by the kind of fault alone.
    """

    kind: str
    parts: Sequence[bytes | memoryview] = ()
    round: int | None = None
    tensors: Sequence[TensorInfo] = ()
    norm: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    account: str | None = None
    class_counts: Sequence[int] = ()
    only_fault: bool = False

    @property
    def size(self) -> int:
        """The bytes that travel."""
        return sum(memoryview(part).nbytes for part in self.parts)

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes that travel, one part after the other; hexadecimal."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
        return digest.hexdigest()
