"""What one cell of a study found: one small JSON file."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from fedclip_plugin.runs import ClientScores
from fedclip_plugin.runs.class_split_record import ClassSplitRecord
from fedclip_plugin.study.running.answer_counts import Counts, Drawn

FORMAT: Literal[2] = 2
"""Version of the file: 2 holds counts, where 1 held the answers for each image."""

NO_TARGET = "no_target"
"""Stands for the target in names of files when no domain is held out."""


def cell_name(case: str, target: str | None, seed: int, point: int) -> str:
    """Return the path of a cell's file and run folder below their folders, without an ending."""
    return f"{case}/{target or NO_TARGET}/seed_{seed}_point_{point}"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Accuracy(_Part):
    """Accuracies between 0 and 1: zero-shot CLIP's, the selected round's, the last round's."""

    zero_shot: float
    selected: float
    last: float


class SourceAccuracy(Accuracy):
    """Accuracies on a silo's own test split.

    Attributes
    ----------
    personal
        After local fine-tuning; None where there was none.
    images
        Images of the split.
    """

    personal: float | None = None
    images: int


class ClientAccuracy(_Part):
    """How the clients of a simulation fare: with zero-shot CLIP, in the selected round, in the last round."""

    zero_shot: ClientScores
    selected: ClientScores
    last: ClientScores


class RoundCurve(_Part):
    """One number a round, from round 0, the untrained adapter.

    Attributes
    ----------
    round
        The rounds.
    validation, test
        Mean accuracy on the silos' validation and test splits.
    target
        Accuracy on the target domain, None in rounds without that test.
    bytes
        Sent since the start, by all silos, up and down.
    seconds
        Wall seconds of the rounds so far.
    """

    round: tuple[int, ...]
    validation: tuple[float, ...]
    test: tuple[float, ...]
    target: tuple[float | None, ...]
    bytes: tuple[int, ...]
    seconds: tuple[float, ...]

    @model_validator(mode="after")
    def _as_long_as_each_other(self) -> Self:
        if len({len(values) for values in self.__dict__.values()}) != 1:
            raise ValueError("the curve's columns are not equally long")
        return self


class Costs(_Part):
    """What the cell cost, measured in the same run as its accuracies.

    Attributes
    ----------
    parameters_trained, parameters_sent
        Numbers of parameters in a silo, and in an update.
    bytes_up, bytes_down
        Per round and silo; of a simulation per round and client that trains in it.
    seconds
        By phase, mean over the rounds from 1; ``round`` is the whole.
    seconds_total, seconds_to_selected
        Wall seconds of all rounds, and until the selected one was complete.
    peak_bytes
        Most memory in use by rank: ``server`` and the silos' names, or ``worker 1`` and so on.
    """

    parameters_trained: int
    parameters_sent: int
    bytes_up: float
    bytes_down: float
    seconds: dict[str, float]
    seconds_total: float
    seconds_to_selected: float
    peak_bytes: dict[str, int]


class Machine(_Part):
    """Where it ran: processor, its cores, and the GPU if there is one."""

    cpu: str
    cores: int
    gpu: str | None


class CellResult(_Part):
    """Everything that tables and plots need of one cell.

    Attributes
    ----------
    case, target, seed, point
        Which cell it is.
    method
        ``fedclip_args.method``.
    settings
        What the grid point sets.
    digest, code
        Of the recipe that made it, and of the source.
    rounds, selected_round
        How many, and the first one of the highest mean source validation.
    validation
        Means over the silos' validation splits.
    target_accuracy
        On the target domain; None without one.
    sources
        By silo, on their own test splits; of a simulation by domain, all clients of one together.
    clients
        Of a simulation: on the clients' own test splits.
    class_split
        Of base and new classes, where the classes are split (``class_split: base_new``); None where they are not.
    curve, costs, machine
        See there.
    counts
        ``target`` and the silos' names to how many test images are of each kind; no image is told of by itself.
    drawn
        Sums that pictures of the target domain take; None without one.
    """

    format_version: Literal[2] = FORMAT
    case: str
    method: str
    target: str | None
    seed: int
    point: int
    settings: dict[str, Any]
    digest: str
    code: str
    rounds: int
    selected_round: int
    validation: Accuracy
    target_accuracy: Accuracy | None
    sources: dict[str, SourceAccuracy]
    clients: ClientAccuracy | None = None
    class_split: ClassSplitRecord | None = None
    curve: RoundCurve
    counts: dict[str, Counts]
    drawn: Drawn | None
    costs: Costs
    machine: Machine

    @model_validator(mode="after")
    def _parts_belong_together(self) -> Self:
        parts = {*self.sources, *(["target"] if self.target is not None else [])}
        if set(self.counts) != parts:
            raise ValueError(f"counts are for {sorted(self.counts)}, not for {sorted(parts)}")
        if not (self.target is None) == (self.target_accuracy is None) == (self.drawn is None):
            raise ValueError("there is an accuracy on the target, and a picture of it, exactly when there is a target")
        return self

    @property
    def name(self) -> str:
        """Name of its cell."""
        return cell_name(self.case, self.target, self.seed, self.point)

    def source_mean(self, column: str) -> float:
        """Return the mean over the silos of a column of :class:`SourceAccuracy`, such as ``selected``."""
        values = [float(getattr(accuracy, column)) for accuracy in self.sources.values()]
        return sum(values) / len(values)
