"""What is known of a study: the results that are there and belong to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.study.running.answer_counts import Kinds
from fedclip_plugin.study.running.cell_result import CellResult
from fedclip_plugin.study.running.plan import Cell, Plan
from fedclip_plugin.study.running.results_folder import ResultsFolder
from fedclip_plugin.study.running.study_messages import Question


@dataclass(frozen=True)
class StudyResults:
    """Results of a study, complete or not.

    Attributes
    ----------
    results
        Cell name to result; only those that the plan asks for and that its recipes made.
    faults
        A sentence for each file that is damaged or made by another recipe.
    given_up
        Names of cells that failed too often, with the note to remove to try them again.
    joint
        What the ranks answered of several federations together; None where no rank has all of the answers.
    """

    plan: Plan
    results: dict[str, CellResult]
    faults: tuple[str, ...] = ()
    given_up: dict[str, Path] = field(default_factory=dict)
    joint: dict[Question, Kinds | None] = field(default_factory=dict)

    @classmethod
    def read(cls, plan: Plan, folder: ResultsFolder) -> Self:
        """Read what a results folder holds of a plan; files that cannot be used are told in ``faults``."""
        results: dict[str, CellResult] = {}
        faults: dict[str, str] = {}
        given_up = {name: file for name, file in folder.failures.given_up().items() if plan.named(name)}
        while new := [cell for cell in plan.todo(results, given_up) if cell.name not in faults]:
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
        joint: dict[Question, Kinds | None] = {}
        for case in plan.study.cases:
            try:
                joint |= folder.load_joint(case)
            except RunFolderError as error:
                faults[case] = str(error)
        return cls(plan, results, tuple(faults.values()), given_up, joint)

    def kinds(self, question: Question) -> Kinds | None:
        """Return how many images are of each kind; None where that is not known."""
        if len(question.cells) == 1:
            return self.results[question.cells[0]].counts[question.part].kinds()
        return self.joint.get(question)

    def point(self, case: str, target: str | None) -> int | None:
        """Return the grid point that a case keeps on a target, None while it is not known."""
        return self.plan.chosen(case, target, self.results, self.given_up)

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

    @property
    def simulated(self) -> bool:
        """Whether it is of simulations: of many clients on few ranks."""
        return self.plan.recipe(next(iter(self.plan.study.cases))).simulated

    def complete(self) -> bool:
        """Return whether no cell is missing."""
        return len(self.results) == self.plan.total()

    def todo(self) -> list[Cell]:
        """Return the cells that can be run now; empty when every cell is there or given up."""
        return self.plan.todo(self.results, self.given_up)

    def left_out(self) -> list[str]:
        """Say for each cell of the study that was given up how to try it again."""
        return [
            f"failed twice and left out: {name}; remove {file} to try again" for name, file in self.given_up.items()
        ]
