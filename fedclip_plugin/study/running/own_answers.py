"""What was answered for each image: it stays on the disk of the rank that answered.

A rank tells sums of it (:mod:`~fedclip_plugin.study.running.answer_counts`). The intervals take an image together
with all that was answered for it in several federations, so the answers are kept, each in its federation's run folder,
where the rank itself finds them again.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fedclip_edge.files import write_file
from fedclip_plugin.study.running.answer_counts import Counts, Kinds

Numbers = NDArray[np.int64]


def pack(numbers: ArrayLike) -> str:
    """Pack whole numbers, ``[N]``, as base64 of little-endian 32-bit ones.

    Raises
    ------
    ValueError
        When a number does not fit.
    """
    array = np.asarray(numbers)
    if array.size and (array.min() < 0 or array.max() > np.iinfo("<u4").max):
        raise ValueError(f"numbers from {array.min()} to {array.max()} do not fit into 32 bits")
    return base64.b64encode(array.astype("<u4").tobytes()).decode()


def unpack(text: str) -> Numbers:
    """Return what :func:`pack` packed, as ``int64`` ``[N]``.

    Raises
    ------
    ValueError
        When the text is no base64, or torn.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<u4").astype(np.int64)


class KeptAnswers(BaseModel):
    """The answers of one federation for one set of images; make them with :meth:`of`.

    Attributes
    ----------
    digest
        Of the cell that they belong to.
    adapters
        How many adapters answered: one, or one a silo for the target domain without federation.
    images
        Which image of its domain each one is; a silo's test split is another one with another seed.
    zero_shot
        1 for each image that zero-shot CLIP has right, else 0.
    right
        How many adapters of the selected round have it right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    adapters: int
    images: str
    zero_shot: str
    right: str

    @model_validator(mode="after")
    def _whole(self) -> Self:
        count = len(unpack(self.images))
        if any(len(unpack(row)) != count for row in (self.zero_shot, self.right)):
            raise ValueError(f"the rows of answers do not all hold {count} images")
        return self

    @classmethod
    def of(
        cls,
        digest: str,
        true: ArrayLike,
        zero_shot: ArrayLike,
        selected: ArrayLike,
        positions: ArrayLike | None = None,
    ) -> Self:
        """Keep of answers what is right.

        Parameters
        ----------
        true, zero_shot
            Labels, ``[N]``.
        selected
            Labels, ``[A, N]`` of A adapters.
        positions
            Which image of its domain each one is, ``[N]``; None: all images in order.
        """
        labels, rows = np.asarray(true), np.atleast_2d(selected)
        return cls(
            digest=digest,
            adapters=len(rows),
            images=pack(np.arange(len(labels)) if positions is None else positions),
            zero_shot=pack(np.asarray(zero_shot) == labels),
            right=pack((rows == labels).sum(0)),
        )

    def counts(self) -> Counts:
        """Return how many images are of each kind."""
        return Counts.of(unpack(self.zero_shot), unpack(self.right), self.adapters)

    def save(self, run_folder: Path, part: str) -> None:
        """Write them into a federation's run folder, on this machine.

        Parameters
        ----------
        part
            ``target`` or the silo's name.
        """
        file = _file(run_folder, part)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, self.model_dump_json().encode())

    @classmethod
    def load(cls, run_folder: Path, part: str, digest: str) -> Self | None:
        """Read what :meth:`save` wrote; None when it is not on this machine, damaged, or of another cell."""
        try:
            found = cls.model_validate_json(_file(run_folder, part).read_bytes())
        except (OSError, ValidationError):
            return None
        return found if found.digest == digest else None


def kinds_of(federations: Sequence[KeptAnswers]) -> Kinds:
    """Return how many images are of each kind in all that several federations answered for them."""
    gains = [unpack(own.right) - own.adapters * unpack(own.zero_shot) for own in federations]
    return _kinds([(unpack(own.images), gain, own.adapters) for own, gain in zip(federations, gains, strict=True)])


def kinds_between(pairs: Sequence[tuple[KeptAnswers | None, KeptAnswers | None]]) -> Kinds | None:
    """Return how many images are of each kind where one case's answers are compared with another's.

    A gain is what the first has right and the second has not. Where their numbers of adapters differ, each answer
    counts as often as the other case has adapters.

    Parameters
    ----------
    pairs
        The answers of both for the same images, a pair a federation; None stands for answers that are not here.

    Returns
    -------
    Kinds or None
        None where answers are missing, or not for the same images.
    """
    rows = []
    for first, second in pairs:
        if first is None or second is None or first.images != second.images:
            return None
        gain = second.adapters * unpack(first.right) - first.adapters * unpack(second.right)
        rows.append((unpack(first.images), gain, first.adapters * second.adapters))
    return _kinds(rows) if rows else None


def _kinds(federations: Sequence[tuple[Numbers, Numbers, int]]) -> Kinds:
    """Return how many images are of each kind: of each federation images, their gains, and answers for an image."""
    numbers, gains, answers = zip(*federations, strict=True)
    images, index = np.unique(np.concatenate(numbers), return_inverse=True)
    tried = [np.full(len(gain), count) for gain, count in zip(gains, answers, strict=True)]
    gain, total = (np.bincount(index, np.concatenate(each), len(images)) for each in (gains, tried))
    return Kinds.of(gain.astype(np.int64), total.astype(np.int64))


def _file(run_folder: Path, part: str) -> Path:
    return run_folder / "answers" / f"{part}.json"
