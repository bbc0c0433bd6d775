"""What a whole federation cost, from what its ranks reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Federation:
    """A finished job of ``benchmarks.ranks.costs_rank``.

    Attributes
    ----------
    ranks
        What the ranks reported, the server's first.
    images
        Of each silo.
    """

    ranks: Sequence[dict[str, Any]]
    images: int

    @property
    def server(self) -> dict[str, Any]:
        """The server's report."""
        return self.ranks[0]

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The lines of the rounds that trained."""
        return [line for line in self.server["lines"] if line["round"] > 0]

    @property
    def peaks(self) -> list[int]:
        """Highest resident bytes of each rank, the server's first."""
        return [rank["peak"] for rank in self.ranks]

    def phase(self, name: str) -> list[float]:
        """Return the seconds of a phase in each round."""
        return [line["seconds"][name] for line in self.rounds]

    def bytes_a_silo(self, way: str) -> float:
        """Return bytes that a silo sends (``up``) or receives (``down``) in a round, the mean over rounds."""
        return sum(int(line[f"bytes_{way}"]) for line in self.rounds) / len(self.rounds) / (len(self.ranks) - 1)

    def seconds(self, rounds: int) -> float:
        """Return seconds from loading to the last of ``rounds`` rounds: as measured, or extrapolated beyond that."""
        if rounds == len(self.rounds):
            return float(self.server["total"])
        return float(self.server["set_up"]) + rounds * median(self.phase("round"))

    def seconds_with(self, images: int, rounds: int) -> float:
        """Return the same for silos of so many images, which training and evaluation take as long for as here."""
        of_images = median(a + b for a, b in zip(self.phase("train"), self.phase("evaluate"), strict=True))
        rest = max(0.0, median(self.phase("round")) - of_images)
        return float(self.server["set_up"]) + rounds * (of_images * images / self.images + rest)

    def forward_seconds(self) -> float:
        """Return the seconds of evaluating one image, in the silo that takes longest."""
        splits = self.rounds[0]["silos"].values()
        evaluated: int = max(sum(silo["images"].values()) for silo in splits)
        return median(self.phase("evaluate")) / evaluated
