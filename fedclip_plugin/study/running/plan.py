"""The cells of a study, and which of them are still to be run."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedclip_plugin.recipe import Recipe
from fedclip_plugin.study.definition import Study
from fedclip_plugin.study.running.cell_result import CellResult, cell_name


def choose(results: Sequence[CellResult]) -> int:
    """Return the grid point of the highest mean source validation at its selected round.

    Parameters
    ----------
    results
        All points of one case on one target, with the study's first seed; not empty.

    Returns
    -------
    int
        The point; the first one of equals.
    """
    in_order = sorted(results, key=lambda result: result.point)
    return max(in_order, key=lambda result: result.validation.selected).point


@dataclass(frozen=True)
class Cell:
    """One federation of a study.

    Attributes
    ----------
    case, target, seed, point
        Which one; ``point`` is an index into the case's grid.
    settings
        What the grid point sets, ``section.key`` to value.
    """

    case: str
    target: str | None
    seed: int
    point: int
    settings: Mapping[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Path of the cell's file and run folder below their folders, without an ending."""
        return cell_name(self.case, self.target, self.seed, self.point)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what defines the result: the recipe's digest and the number of rounds."""
        text = f"{self.recipe.digest()} {self.recipe.train_args.comm_round}"
        return hashlib.sha256(text.encode()).hexdigest()


class Plan:
    """All cells of a study, in the order in which they are run.

    First every grid with the first seed, case by case as the study lists them, then the other seeds of the chosen
    points: a study that is stopped halfway has something of every case rather than everything of a few.

    Parameters
    ----------
    study
        The whole study.
    only
        Names of the cases that are planned; none stands for all of them.

    Attributes
    ----------
    study
        The study with the planned cases.
    whole
        The whole study.
    """

    def __init__(self, study: Study, only: Sequence[str] = ()) -> None:
        self.study, self.whole = study.only(only), study
        self._made: dict[tuple[str, str | None, int, int], Cell] = {}

    def cell(self, case: str, target: str | None, seed: int, point: int) -> Cell:
        """Return one cell of the study."""
        key = (case, target, seed, point)
        if key not in self._made:
            recipe = self.study.cell_recipe(*key)
            flat = recipe.flat()
            settings = {name: flat.get(name.partition(".")[2]) for name in self.study.cases[case].grid[point]}
            self._made[key] = Cell(*key, settings, recipe)
        return self._made[key]

    def recipe(self, case: str) -> Recipe:
        """Return the recipe of a case's first cell: its cells differ in target, seed and grid point only."""
        return self.cell(case, self.study.held_out()[0], self.study.seeds[0], 0).recipe

    def named(self, name: str) -> Cell | None:
        """Return the cell of this name; None when the study has none."""
        cells = (
            self.cell(case, target, seed, point)
            for case, target in self.pairs()
            for seed in self.study.seeds
            for point in range(len(self.study.cases[case].grid))
        )
        return next((cell for cell in cells if cell.name == name), None)

    def grid(self, case: str, target: str | None) -> list[Cell]:
        """Return all grid points of a case on a target, with the first seed."""
        points = range(len(self.study.cases[case].grid))
        return [self.cell(case, target, self.study.seeds[0], point) for point in points]

    def total(self) -> int:
        """Return how many cells the whole study has."""
        return self.study.cells()

    def chosen(
        self, case: str, target: str | None, results: Mapping[str, CellResult], given_up: Collection[str] = ()
    ) -> int | None:
        """Return the grid point that a case keeps on a target, None as long as one of its cells is missing.

        Parameters
        ----------
        given_up
            Names of cells that failed too often; the choice goes on without them.
        """
        cells = [cell for cell in self.grid(case, target) if cell.name in results or cell.name not in given_up]
        found = [results[cell.name] for cell in cells if cell.name in results]
        return choose(found) if found and len(found) == len(cells) else None

    def todo(self, results: Mapping[str, CellResult], given_up: Collection[str] = ()) -> list[Cell]:
        """Return the cells that can be run now, in order; more may follow when they are done."""
        grids = [cell for case, target in self.pairs() for cell in self.grid(case, target)]
        cells = [*grids, *(cell for pair in self.pairs() for cell in self._other_seeds(*pair, results, given_up))]
        return [cell for cell in cells if cell.name not in results and cell.name not in given_up]

    def pairs(self) -> list[tuple[str, str | None]]:
        """Return every case with every target, in order."""
        return [(case, target) for case in self.study.cases for target in self.study.held_out()]

    def _other_seeds(
        self, case: str, target: str | None, results: Mapping[str, CellResult], given_up: Collection[str]
    ) -> Iterator[Cell]:
        point = self.chosen(case, target, results, given_up)
        if point is not None:
            yield from (self.cell(case, target, seed, point) for seed in self.study.seeds[1:])
