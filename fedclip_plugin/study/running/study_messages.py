"""What crosses between the ranks of a study, besides its federations: what is next, and sums of answers."""

from __future__ import annotations

from dataclasses import dataclass

from fedclip_plugin.study.running.answer_counts import Counts, Kinds


@dataclass(frozen=True)
class RunCell:
    """From the server to all: which federation is next.

    Attributes
    ----------
    case, target, seed, point
        As the study calls it; ``point`` is an index into the case's grid.
    """

    case: str
    target: str | None
    seed: int
    point: int


@dataclass(frozen=True)
class Question:
    """Of which images, and of which federations, an interval is told.

    Attributes
    ----------
    part
        ``target``, or the name of a silo: its own test images.
    cells
        Names of the federations, such as ``fedclip/sketch/seed_0_point_1``.
    """

    part: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Ask:
    """From the server to all: the question how many images are of each kind in several federations together.

    Attributes
    ----------
    questions
        A question each.
    """

    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Joint:
    """From a rank to the server: what it knows of each question.

    Attributes
    ----------
    kinds
        In the order of the questions; None where it has not all of the answers.
    """

    kinds: tuple[Kinds | None, ...]


@dataclass(frozen=True)
class Selected:
    """From the server to all: a federation is over.

    Attributes
    ----------
    round
        The one of the best mean source validation.
    """

    round: int


@dataclass(frozen=True)
class CellPart:
    """From a silo to the server: what it adds to a federation's result.

    Attributes
    ----------
    counts
        Of its test images; None for a worker of a simulation, whose server has all answers.
    peak_bytes
        Its highest resident memory during the federation.
    """

    counts: Counts | None
    peak_bytes: int


@dataclass(frozen=True)
class Over:
    """From the server to all: nothing is left to do.

    Attributes
    ----------
    failed
        Whether something is wrong on the server, which says it on its console.
    """

    failed: bool = False
