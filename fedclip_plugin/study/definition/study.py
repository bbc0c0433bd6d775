"""A study: one base recipe, many cases, each on every target domain with several seeds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe.faults import closest, listed, show
from fedclip_plugin.recipe.overrides import copy_sections, put
from fedclip_plugin.recipe.recipe import Recipe
from fedclip_plugin.recipe.rules.data import shares_out
from fedclip_plugin.recipe.rules.one_round import rounds_of
from fedclip_plugin.recipe.schema.sections import flat_sections
from fedclip_plugin.recipe.schema.types import FolderName, Section, Text, Whole

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def _file_name(name: str) -> str:
    if not _FILE_NAME.fullmatch(name):
        raise ValueError("must be a plain file name: letters, digits, '_', '-' and '.', e.g. fedclip_int8")
    return name


def _distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    counts = Counter(map(_comparable, items))
    twice = list(dict.fromkeys(show(item) for item in items if counts[_comparable(item)] > 1))
    if twice:
        raise ValueError(f"names {listed(twice)} more than once; name each once")
    return items


def _comparable(item: Any) -> Any:
    """Return an item of a list, text, number or mapping, as something that can be counted."""
    return tuple(sorted((key, repr(value)) for key, value in item.items())) if isinstance(item, dict) else item


Settings = dict[str, Any]
"""``section.key`` of a recipe to its value, as in ``--set``."""

StudyName = Annotated[str, Field(strict=True), AfterValidator(_file_name)]
Seed = Annotated[Whole, Field(ge=0)]
Targets = Annotated[tuple[FolderName, ...], Field(min_length=1), AfterValidator(_distinct)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_distinct)]
Grid = Annotated[tuple[Settings, ...], Field(min_length=1), AfterValidator(_distinct)]


class Case(Section):
    """One row of the study's tables.

    Attributes
    ----------
    title
        What tables and pictures call it.
    settings
        ``set`` in the file: what differs from the base recipe, ``section.key`` to value.
    grid
        Points, ``section.key`` to value, that are tried with the first seed; the best by source validation is kept.
        Without it, one point that sets nothing.
    """

    title: Text
    settings: Settings = Field(default={}, alias="set")
    grid: Grid = ({},)


class Study(Section):
    """A whole comparison, described and checked; read a file with `load_study`.

    Attributes
    ----------
    study
        The study's name.
    recipe
        The base recipe, which all cases share: its name, its path, or its sections.
    settings
        ``set`` in the file: what every cell has in place of the base recipe's values.
    targets
        Domains that are held out in turn. Without it, no domain is held out.
    seeds
        Random seeds of every case; grids are searched with the first.
    cases
        Rows of the tables by name, in order.
    """

    study: StudyName
    recipe: dict[str, Any]
    settings: Settings = Field(default={}, alias="set")
    targets: Targets | None = None
    seeds: Seeds
    cases: Annotated[dict[StudyName, Case], Field(min_length=1)]

    def held_out(self) -> tuple[str | None, ...]:
        """Return the target domains in order; one None where there is no target."""
        return self.targets or (None,)

    def only(self, names: Sequence[str]) -> Study:
        """Return the study with some of its cases, all of them where none is named.

        Raises
        ------
        RecipeError
            When it has no case of that name.
        """
        for name in names:
            if name not in self.cases:
                meant = closest(name, self.cases)
                hint = f" (did you mean {meant}?)" if meant else ""
                told = f"study {self.study} has no case {name!r}{hint}; its cases are {listed(self.cases, 40)}"
                raise RecipeError(told)
        kept = {name: case for name, case in self.cases.items() if name in names or not names}
        return self.model_copy(update={"cases": kept})

    def size(self) -> str:
        """Return how many cases, targets and seeds there are, as text."""
        counts = {"case": len(self.cases), "target": len(self.targets or ()), "seed": len(self.seeds)}
        return ", ".join(f"{count or 'no'} {noun}{'s' * (count != 1)}" for noun, count in counts.items())

    def cells(self) -> int:
        """Return how many federations it takes: every grid with the first seed, one point with the others."""
        return count_cells(self.cases, self.held_out(), self.seeds)

    def cell_recipe(self, case: str, target: str | None, seed: int, point: int) -> Recipe:
        """Build the complete recipe of one cell.

        Parameters
        ----------
        point
            Index into the case's grid.

        Returns
        -------
        Recipe
            The base recipe with the study's, the case's and the point's settings, in this order.

        Raises
        ------
        RecipeError
            When the result is no valid recipe; `load_study` has tried every cell.
        """
        chosen = self.cases[case]
        sections = cell_sections(self.recipe, (self.settings, chosen.settings, chosen.grid[point]), target, seed)
        return Recipe.checked(sections, f"study {self.study}, case {case}, point {point}")

    def to_yaml(self) -> str:
        """Write the study, base recipe included, as YAML that loads again to an equal study."""
        plain = self.model_dump(mode="json", by_alias=True)
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def count_cells(cases: Mapping[str, Case], held_out: Sequence[str | None], seeds: Sequence[int]) -> int:
    """Return how many federations cases take; see `Study.cells`."""
    return sum(len(case.grid) + len(seeds) - 1 for case in cases.values()) * len(held_out)


def cell_sections(
    base: Mapping[Any, Any], layers: tuple[Mapping[str, Any], ...], target: str | None, seed: int
) -> dict[Any, Any]:
    """Lay settings over the sections of a base recipe.

    Parameters
    ----------
    layers
        Settings with valid names; a later one wins.
    """
    sections = copy_sections(base)
    for name, value in [item for layer in layers for item in layer.items()]:
        put(sections, name, value)
    flat = flat_sections(sections)
    parted = shares_out(flat) or flat.get("fedclip_args.silos_per_domain")
    if parted and flat.get("data_args.partition_seed") is None:
        put(sections, "data_args.partition_seed", 0)  # the same silos with every seed
    rounds = rounds_of(flat.get("fedclip_args.method"))
    if rounds is not None:
        put(sections, "train_args.comm_round", rounds)  # whatever the study has for the methods that are trained
    put(sections, "fedclip_args.target_domain", target)
    put(sections, "common_args.random_seed", seed)
    put(sections, "validation_args.frequency_of_the_test", 1)
    put(sections, "fedclip_args.keep_rounds", 1)
    put(sections, "tracking_args.enable_tensorboard", False)
    return sections
