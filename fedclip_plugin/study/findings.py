"""What is known of a study: the results that are there and belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.study.cell_result import CellResult
from fedclip_plugin.study.plan import Plan
from fedclip_plugin.study.results import ResultsFolder


@dataclass(frozen=True)
class Findings:
    """Results of a study, complete or not.

    Attributes
    ----------
    plan
        The study's cells.
    results
        Cell name to result; only those that the plan asks for and that its recipes made.
    faults
        A sentence for each file that is damaged or made by another recipe.
    """

    plan: Plan
    results: dict[str, CellResult]
    faults: tuple[str, ...] = ()

    @classmethod
    def read(cls, plan: Plan, folder: ResultsFolder) -> Self:
        """Read what a results folder holds of a plan; files that cannot be used are told in ``faults``."""
        results: dict[str, CellResult] = {}
        faults: dict[str, str] = {}
        while new := [cell for cell in plan.todo(results) if cell.name not in faults]:
            found = 0
            for cell in new:
                try:
                    result = folder.load(cell)
                except RunFolderError as error:
                    faults[cell.name] = str(error)
                    continue
                if result is not None:
                    results[cell.name] = result
                    found += 1
            if not found:
                break
        return cls(plan, results, tuple(faults.values()))

    def point(self, case: str, target: str | None) -> int | None:
        """Return the grid point that a case keeps on a target, None while it is not known."""
        return self.plan.chosen(case, target, self.results)

    def chosen(self, case: str, target: str | None) -> list[CellResult]:
        """Return the results of a case's chosen point on a target, by seed; empty while it is not known."""
        point = self.point(case, target)
        if point is None:
            return []
        cells = [self.plan.cell(case, target, seed, point) for seed in self.plan.study.seeds]
        return [self.results[cell.name] for cell in cells if cell.name in self.results]

    def of_case(self, case: str) -> list[CellResult]:
        """Return the results of a case's chosen points on all targets, with all seeds that are there."""
        return [result for target in self.plan.study.held_out() for result in self.chosen(case, target)]

    def complete(self) -> bool:
        """Return whether no cell is missing."""
        return len(self.results) == self.plan.total()
