"""Which of a federation's silos take part in a job: some may be left out (``--without``), and all else stays.

A silo's *index* is where it stands among all silos of the recipe, whoever is there: its share of the images, its random
generators and, counted from 1 as its *number*, its files on disk go by it. Its *place* is where it stands among those
that are there, and its *rank* is that counted from 1: FedML and the server's round go by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Self

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.recipe.faults import did_you_mean
from fedclip_plugin.recipe.rules.secure_sums import FEWEST_IN_A_SUM
from fedclip_plugin.text import told

if TYPE_CHECKING:
    from fedclip_plugin.recipe import Recipe
    from fedclip_plugin.runs import RoundRecord


@dataclass(frozen=True)
class Members:
    """The silos of a federation, and which of them are there.

    Attributes
    ----------
    total
        How many silos the recipe has.
    away
        Index to name of those that are left out.
    """

    total: int
    away: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe, without: Sequence[str] = ()) -> Self:
        """Return all silos of a recipe but those of some names.

        Raises
        ------
        FedClipError
            A name is of no silo, the recipe is a simulation or does not say how few silos will do, or fewer are left.
            A DataError when the names of the silos cannot be known here.
        """
        total = recipe.train_args.client_num_in_total
        if not without:
            return cls(total)
        if recipe.simulated:
            raise FedClipError("--without leaves out silos, and a simulation has none: leave it out")
        min_silos = recipe.fedclip_args.min_silos
        if min_silos is None:
            raise FedClipError(
                "--without: the recipe does not say that fewer silos will do, so that every round needs all of those "
                "sampled for it; set fedclip_args.min_silos, which may change in a run that is resumed"
            )
        names = names_of_silos(recipe)
        for name in without:
            if name not in names:
                every = ", ".join(map(told, names))
                raise FedClipError(
                    f"--without {told(name)}: no silo has this name{did_you_mean(name, names)}; there are {every}"
                )
        away = {index: name for index, name in enumerate(names) if name in without}
        left = f"--without {', '.join(map(told, away.values()))} leaves {total - len(away)} of {total} silos"
        if total - len(away) < FEWEST_IN_A_SUM and recipe.fedclip_args.secure_sums:
            raise FedClipError(
                f"{left}, and secure_sums need {FEWEST_IN_A_SUM}: wait for those that are gone, or begin a new run "
                "with more silos"
            )
        if total - len(away) < min_silos:
            raise FedClipError(
                f"{left}, and a round needs {min_silos} (fedclip_args.min_silos): leave fewer out, or lower that"
            )
        return cls(total, away)

    def require_same_sums(self, recipe: Recipe, records: Sequence[RoundRecord]) -> None:
        """Refuse with a FedClipError to go on with other silos where secure sums let members never change."""
        settings = recipe.fedclip_args
        if not settings.secure_sums or settings.on_missing == "redo" or not records or not records[-1].round:
            return
        if set(records[-1].without) != set(self.without):
            before, now = (", ".join(map(told, names)) or "nobody" for names in (records[-1].without, self.without))
            raise FedClipError(
                f"the run was made without {before}, and is to go on without {now}: with secure_sums and on_missing: "
                "abort the members of a sum never change in a run; resume with the same silos, or begin a new run with "
                "another --run"
            )

    def told(self) -> str:
        """Return which silos are left out, as a line of text."""
        names = ", ".join(map(told, self.without))
        return f"without {names}: rounds are made by the other {len(self.present)} of {self.total} silos"

    @cached_property
    def present(self) -> tuple[int, ...]:
        """Indices of the silos that are there, in the order of their ranks."""
        return tuple(index for index in range(self.total) if index not in self.away)

    @property
    def without(self) -> tuple[str, ...]:
        """Names of those that are not, in silo order."""
        return tuple(self.away[index] for index in sorted(self.away))

    def index(self, rank: int) -> int:
        """Return the index of the silo of a rank, from 1."""
        return self.present[rank - 1]

    def who(self, recipe: Recipe, rank: int) -> str:
        """Return the name and the rank of a silo of the job, as far as the recipe names its silos."""
        names = recipe.silo_names() or ()
        index = self.index(rank) if rank and not recipe.simulated else len(names)
        return f"{told(names[index])} (rank {rank})" if index < len(names) else f"rank {rank}"

    def number(self, rank: int) -> int:
        """Return the rank that this one has when everybody is there, which names its files."""
        return self.index(rank) + 1 if rank else 0

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of all silos that are there, as of :meth:`number`."""
        return tuple(index + 1 for index in self.present)

    def places(self, indices: Iterable[int]) -> list[int]:
        """Return the places of the silos of some indices; who is not there is left out."""
        found = {index: place for place, index in enumerate(self.present)}
        return [found[index] for index in indices if index in found]

    def of_those_there(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of the names of all silos whose silos are there."""
        return tuple(names[index] for index in self.present)

    def of_all(self, there: Sequence[str]) -> tuple[str, ...]:
        """Return the names of all silos from those of the silos that are there."""
        named = {**self.away, **dict(zip(self.present, there, strict=True))}
        return tuple(named[index] for index in range(self.total))


def last_part(records: Sequence[RoundRecord], index: int) -> int:
    """Return the last of a run's rounds that a silo was not left out of; 0 where it has taken part in none.

    What the silo itself has of later rounds is of a job that was ended, and these rounds went on without it. A silo
    that was late in every round has nothing to go on with.
    """
    name = list(records[0].silos)[index] if records else ""
    if all(name in (*record.without, *record.late) for record in records if record.round):
        return 0
    return next((record.round for record in reversed(records) if name not in record.without), 0)


def names_of_silos(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of all silos of a recipe; a DataError when they cannot be known here."""
    from fedclip_plugin.data import silo_names

    if recipe.draws_images:
        from fedclip_miniature import DOMAINS

        return silo_names(recipe, domains=DOMAINS)
    return silo_names(recipe)
