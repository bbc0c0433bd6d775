"""What has left a silo in a run so far, which a policy holds the next message against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fedclip_plugin.trust.outgoing import KINDS, Kind


@dataclass
class LeftBefore:
    """Totals of all messages, those of earlier starts included.

    Attributes
    ----------
    recipe
        Digest of the recipe of which the next message is.
    size
        Bytes in all.
    trained
        Messages that carry training, by recipe: a study has one of each cell.
    rounds_known
        Recipes of which a message tells of a round: every silo sends one in each, whether it trains or not.
    spent
        Epsilon that each account of differential privacy had come to, by recipe. An account grows with each message
        that carries training; one that does not grow was begun anew.
    """

    recipe: str = ""
    size: int = 0
    trained: Counter[str] = field(default_factory=Counter)
    rounds_known: set[str] = field(default_factory=set)
    spent: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of_log(cls, entries: Iterable[Mapping[str, Any]]) -> Self:
        """Return what the lines of an egress log tell."""
        found = cls()
        for entry in entries:
            if entry["entry"] == "message":
                found.add(entry["kind"], entry["bytes"], entry["epsilon"])
                if entry["round"] is not None:
                    found.rounds_known.add(found.recipe)
            else:
                found.recipe = entry.get("recipe", found.recipe)
        return found

    @property
    def rounds(self) -> int:
        """How often training of the recipe has left."""
        return self.trained[self.recipe]

    @property
    def epsilon(self) -> float:
        """What all accounts have come to: by basic composition, epsilons of one image add up."""
        return sum(epsilon for accounts in self.spent.values() for epsilon in accounts)

    def epsilon_with(self, epsilon: float) -> float:
        """Return what that would be after a message that carries training and tells of this epsilon."""
        own = self.spent.get(self.recipe, [])
        others = sum(sum(accounts) for recipe, accounts in self.spent.items() if recipe != self.recipe)
        return others + sum(own[:-1] if own and epsilon > own[-1] else own) + epsilon

    def add(self, kind: str, size: int, epsilon: float | None = None) -> None:
        """Count a message."""
        self.size += size
        trains = KINDS.get(kind, Kind()).trains
        self.trained[self.recipe] += trains
        if trains and epsilon is not None:
            own = self.spent.setdefault(self.recipe, [])
            if own and epsilon > own[-1]:
                own.pop()
            own.append(epsilon)
