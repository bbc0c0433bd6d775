"""A run's rounds as arrays, checked line by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.runs import RunFolder

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Numbers = npt.NDArray[np.float64]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class SiloLine(_Line):
    """What a silo reported of one round; shares are between 0 and 1."""

    train_loss: float | None
    validation: Share
    test: Share
    images: dict[str, int]
    zero_shot: dict[str, Share] = {}


class RoundRecord(_Line):
    """One line of ``metrics.jsonl``; keys that no figure needs are left out."""

    round: int
    silos: Annotated[dict[str, SiloLine], Field(min_length=1)]
    train_loss: float | None
    validation: Share
    test: Share
    target: Share | None
    zero_shot_target: Share | None = None
    images_target: int | None = None
    dropped: dict[str, Any] = {}
    bytes_up: Amount
    bytes_down: Amount
    seconds: dict[str, Amount]
    best_round: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class RoundArrays:
    """All complete rounds of a run.

    Shapes: R rounds, round 0 (the untrained adapter) included.

    Attributes
    ----------
    records
        One a round, from round 0.
    """

    records: tuple[RoundRecord, ...]

    @classmethod
    def read(cls, folder: RunFolder) -> Self:
        """Read and check a run's metrics.

        Raises
        ------
        RunFolderError
            When there are none, or a line is damaged, missing, or of other silos than the first.
        """
        records = [_record(folder, number, line) for number, line in enumerate(folder.lines(), 1)]
        if not records:
            raise RunFolderError(
                f"{folder.path} holds no complete round ({folder.metrics.name} is missing or empty): give the folder "
                "of a run that has begun to train"
            )
        folder.require_in_order([record.round for record in records])
        for number, record in enumerate(records, 1):
            if list(record.silos) != list(records[0].silos):
                raise RunFolderError(
                    f"{folder.metrics}, line {number} is of {', '.join(record.silos)}; "
                    f"a round of {', '.join(records[0].silos)} belongs there: restore the file"
                )
        if (best := records[-1].best_round) >= len(records):
            raise RunFolderError(f"{folder.metrics} does not hold round {best}, the best one: restore the file")
        return cls(tuple(records))

    @cached_property
    def rounds(self) -> npt.NDArray[np.int64]:
        """Numbers of the rounds, ``[R]``."""
        return np.array([record.round for record in self.records])

    @property
    def silos(self) -> tuple[str, ...]:
        """Names of the silos, in order."""
        return tuple(self.records[0].silos)

    @property
    def selected(self) -> RoundRecord:
        """The round of the best mean source validation; round 0 as long as there is no other."""
        return self.records[self.records[-1].best_round]

    def column(self, name: str) -> Numbers:
        """Return a number of each round, ``[R]``; NaN where there is none."""
        return _numbers([getattr(record, name) for record in self.records])

    def silo(self, silo: str, name: str) -> Numbers:
        """Return a number of a silo by round, ``[R]``; NaN where there is none."""
        return _numbers([getattr(record.silos[silo], name) for record in self.records])

    def bytes_so_far(self) -> Numbers:
        """Return the bytes sent up to each round, up and down, all silos, ``[R]``."""
        total: Numbers = np.cumsum(self.column("bytes_up") + self.column("bytes_down"))
        return total

    def seconds_so_far(self) -> Numbers:
        """Return the wall seconds of the rounds up to each, ``[R]``."""
        total: Numbers = np.cumsum(self.phase("round"))
        return total

    def phase(self, name: str) -> Numbers:
        """Return the seconds of one phase by round, ``[R]``; 0 where it did not happen."""
        return _numbers([record.seconds.get(name, 0.0) for record in self.records])

    def phases(self) -> list[str]:
        """Return the names of the phases that a round is split into, in order."""
        names = dict.fromkeys(name for record in reversed(self.records) for name in record.seconds)
        return [name for name in names if name != "round"]

    def zero_shot(self, silo: str, part: str) -> float | None:
        """Return zero-shot CLIP's accuracy on a split of a silo, None where it is not known."""
        return self.records[0].silos[silo].zero_shot.get(part)

    def zero_shot_mean(self, part: str) -> float | None:
        """Return its mean over the silos, None where one of them is not known."""
        known = [value for silo in self.silos if (value := self.zero_shot(silo, part)) is not None]
        return float(np.mean(known)) if len(known) == len(self.silos) else None


def _record(folder: RunFolder, number: int, line: Mapping[str, Any]) -> RoundRecord:
    try:
        return RoundRecord.model_validate(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole line"
        raise RunFolderError(
            f"{folder.metrics}, line {number} is damaged ({place}: {first['msg']}): restore the file"
        ) from error


def _numbers(values: list[float | None]) -> Numbers:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
