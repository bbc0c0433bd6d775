"""What crosses before the first round: a card from each silo to the server, a verdict from the server to each silo.

Cards and verdicts are plain values. What is wrong with a silo's files goes to the server as a kind of fault only: the
sentence, which may hold paths, is the silo's own to say (see :mod:`fedclip_plugin.federated.rank_output`).
"""

from __future__ import annotations

from dataclasses import dataclass

from fedclip_plugin.data import PARTS

FAULTS = {
    "DataError": "its images or folders cannot be used as they are",
    "BackboneError": "its backbone cannot be used",
    "MemoryShortageError": "its machine has too little memory",
    "RunFolderError": "its run folder cannot be used",
    "PolicyError": "its silo policy refuses that, or cannot be used",
    "SiloKeysError": "its silo keys cannot be used, or its roster lacks a silo",
    "OSError": "a file or folder of it cannot be read or written",
    "FedClipError": "it cannot do what the recipe asks for",
}
"""Kinds of faults that a card may name, and how the server puts them."""


def fault_kind(error: Exception) -> str:
    """Return which of :data:`FAULTS` an error is."""
    return next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in FAULTS), "FedClipError")


@dataclass(frozen=True, kw_only=True)
class RankStatus:
    """What every card has.

    Attributes
    ----------
    fault
        Kind of what is wrong, such as ``DataError``; empty when nothing is. No sentence, no path.
    """

    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Present(RankStatus):
    """A silo is there, and has this recipe.

    Attributes
    ----------
    recipe
        Digest of what the recipe says of the training and of its rounds: the server compares it with its own.
    """

    recipe: str = ""


@dataclass(frozen=True, kw_only=True)
class Room(RankStatus):
    """Whether the silo's machine has the memory for its ranks; they find that out among themselves.

    Attributes
    ----------
    needed, there
        Bytes that its ranks take, and that there are for them; both 0 where it fits.
    """

    needed: int = 0
    there: int = 0


@dataclass(frozen=True, kw_only=True)
class Ready(RankStatus):
    """What a silo holds, before it encodes.

    Attributes
    ----------
    name
        Of the silo.
    classes
        Names of its classes, in label order.
    images
        How many images it holds.
    to_encode
        How many of them, augmented views included, are still to be encoded.
    fingerprint
        Of its backbone: the server compares it with its own.
    precision
        What it would encode in; empty when it has nothing to encode.
    policy
        SHA-256 of its silo policy; empty when it has none.
    spent
        Whether it trains no more in this run: by what is on its disk, another round would exceed the recipe's
        ``dp_target_epsilon``.
    """

    name: str = ""
    classes: tuple[str, ...] = ()
    images: int = 0
    to_encode: int = 0
    fingerprint: str = ""
    precision: str = ""
    policy: str = ""
    spent: bool = False


@dataclass(frozen=True, kw_only=True)
class Encoded(RankStatus):
    """A silo has encoded its images.

    Attributes
    ----------
    train, validation, test
        How many images it trains on, chooses a round by, and is scored on: the server compares its reports with them.
    skipped
        How many images it left out, as they cannot be read.
    """

    train: int = 0
    validation: int = 0
    test: int = 0
    skipped: int = 0

    def sizes(self) -> dict[str, int]:
        """Return how many images each split has."""
        return {part: getattr(self, part) for part in PARTS}


@dataclass(frozen=True)
class GoOn:
    """Nothing is wrong with any rank."""


@dataclass(frozen=True)
class Opened(GoOn):
    """The run may begin.

    Attributes
    ----------
    rounds
        How many are complete already.
    own_rounds
        The last of them that this silo was not left out of: what it has of later ones is of a job that was ended.
    """

    rounds: int
    own_rounds: int


@dataclass(frozen=True)
class Agreed(GoOn):
    """What the federation is about.

    Attributes
    ----------
    classes
        Names of its classes, in label order.
    precision
        What every rank encodes in.
    bar
        Whether this rank, which has most to encode, shows a progress bar.
    """

    classes: tuple[str, ...]
    precision: str
    bar: bool


@dataclass(frozen=True)
class CannotStart:
    """The job ends before training.

    Attributes
    ----------
    reason
        What the server has against this silo, one sentence; empty when it is about others.
    """

    reason: str = ""
