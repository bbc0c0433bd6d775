"""A run's rounds as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.runs import RoundRecord, RunFolder

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RoundArrays:
    """All complete rounds of a run.

    Shapes: R rounds, round 0 (the untrained adapter) included.
    """

    records: tuple[RoundRecord, ...]

    @classmethod
    def read(cls, folder: RunFolder) -> Self:
        """Read a run's metrics."""
        records = folder.rounds()
        if not records:
            raise RunFolderError(
                f"{folder.path} holds no complete round ({folder.metrics.name} is missing or empty): give the folder "
                "of a run that has begun to train"
            )
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
        return np.array([getattr(record, name) for record in self.records], dtype=np.float64)

    def silo(self, silo: str, name: str) -> Numbers:
        """Return a number of a silo by round, ``[R]``; NaN where there is none."""
        return np.array([getattr(record.silos[silo], name) for record in self.records], dtype=np.float64)

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
        return np.array([record.seconds.get(name, 0.0) for record in self.records], dtype=np.float64)

    def phases(self) -> list[str]:
        """Return the names of the phases that a round is split into, in order."""
        names = dict.fromkeys(name for record in reversed(self.records) for name in record.seconds)
        return [name for name in names if name != "round"]
