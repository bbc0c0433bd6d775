"""What has left a silo in a run so far, which a policy holds the next message against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from fedclip_plugin.trust.outgoing import KINDS, Kind


class Spent(NamedTuple):
    """An epsilon of the privacy of training images, and the delta of which it is."""

    epsilon: float
    delta: float

    @classmethod
    def together(cls, parts: Iterable[Spent]) -> Self:
        """Return what several accounts of the same images come to: epsilons and deltas add up.

        That is basic composition (Dwork and Roth 2014, theorem 3.16).
        """
        found = list(parts)
        return cls(sum(part.epsilon for part in found), sum(part.delta for part in found))


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
    accounts
        What was spent of differential privacy, by recipe and by the account's name. An account grows with each message
        that carries training. One that does not grow, or is of another delta, was begun anew: both count.
    """

    recipe: str = ""
    size: int = 0
    trained: Counter[str] = field(default_factory=Counter)
    rounds_known: set[str] = field(default_factory=set)
    accounts: dict[tuple[str, str | None], list[Spent]] = field(default_factory=dict)

    @classmethod
    def of_log(cls, entries: Iterable[Mapping[str, Any]]) -> Self:
        """Return what the lines of an egress log tell."""
        found = cls()
        for entry in entries:
            if entry["entry"] == "message":
                found.add_entry(entry)
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
    def spent(self) -> Spent:
        """What all accounts have come to."""
        return Spent.together(part for parts in self.accounts.values() for part in parts)

    def spent_with(self, new: Spent, account: str | None) -> Spent:
        """Return what that would be after a message that carries training and tells of this account."""
        own = self.recipe, account
        others = (part for name, parts in self.accounts.items() if name != own for part in parts)
        return Spent.together([*others, *_grown(self.accounts.get(own, ()), new)])

    def has_spent(self) -> bool:
        """Return whether the recipe has an account already, which the next message may be of."""
        return any(recipe == self.recipe for recipe, _ in self.accounts)

    def add_entry(self, entry: Mapping[str, Any]) -> None:
        """Count a message by its line of an egress log."""
        self.add(entry["kind"], entry["bytes"], entry["epsilon"], entry["delta"], entry["account"])

    def add(
        self,
        kind: str,
        size: int,
        epsilon: float | None = None,
        delta: float | None = None,
        account: str | None = None,
    ) -> None:
        """Count a message; parameters as of :class:`~fedclip_plugin.trust.outgoing.Outgoing`, ``size`` in bytes."""
        self.size += size
        trains = KINDS.get(kind, Kind()).trains
        self.trained[self.recipe] += trains
        if trains and epsilon is not None:
            own = self.recipe, account
            new = Spent(epsilon, 1.0 if delta is None else delta)  # without a delta an epsilon bounds nothing
            self.accounts[own] = _grown(self.accounts.get(own, ()), new)


def _grown(parts: Sequence[Spent], new: Spent) -> list[Spent]:
    """Return the parts of an account with what a message tells: it takes the place of the last where that grew."""
    grew = parts and new.epsilon > parts[-1].epsilon and new.delta == parts[-1].delta
    return [*(parts[:-1] if grew else parts), new]
