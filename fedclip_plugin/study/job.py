"""Every cell of a study, one after the other inside one mpirun job: starting up is paid once."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TypeVar, cast

from mpi4py import MPI

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.history import History
from fedclip_plugin.federated.job import Job
from fedclip_plugin.recipe import Study
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.runs.machine import forget_peak
from fedclip_plugin.study.cell_result import CellResult
from fedclip_plugin.study.findings import Findings
from fedclip_plugin.study.measure import Measured, cell_result, rank_part
from fedclip_plugin.study.observer import CellObserver
from fedclip_plugin.study.plan import Cell, Plan
from fedclip_plugin.study.results import ResultsFolder

T = TypeVar("T")
_KEPT_PARAMETERS = 4_000_000
"""Adapters of more parameters are dropped when their cell is done: a fully fine-tuned ViT-B/32 takes 605 MB."""

Key = tuple[str, str | None, int, int]


class StudyJob:
    """Runs what is missing of a study; every rank of the mpirun job does this.

    The server decides which cell is next and tells the others, so that all of them run the same federations. A cell
    that was stopped halfway begins anew.

    Parameters
    ----------
    study
        A checked study.
    results
        Where results go; only the server touches it.
    progress
        Show bars while rendering and encoding.
    say
        Called on the server with a line for the console.
    """

    def __init__(self, study: Study, results: ResultsFolder, progress: bool, say: Callable[[str], None]) -> None:
        self._plan, self._results = Plan(study), results
        self._progress, self._say = progress, say
        self._comm = MPI.COMM_WORLD
        self._rank = self._comm.Get_rank()
        self._known: dict[str, CellResult] = {}

    def run(self) -> None:
        """Run every cell that has no result yet; MPI stays open.

        Raises
        ------
        FedClipError
            On every rank, when the results folder cannot be used, or a cell cannot start.
        """
        self._agree(self._begin)
        while key := self._agree(self._next):
            self._run(self._plan.cell(*key))

    def _begin(self) -> None:
        self._results.begin(self._plan.study)
        found = Findings.read(self._plan, self._results)
        self._known = found.results
        for fault in found.faults:
            self._say(fault)
        try:
            forget_peak()
        except OSError as error:
            self._say(f"the memory of a cell cannot be told from that of the cells before it ({error})")
        self._say(f"{len(self._known)} of {self._plan.total()} cells are there")
        _explain_termination(self._results, self._known)

    def _next(self) -> Key | None:
        todo = self._plan.todo(self._known)
        return (todo[0].case, todo[0].target, todo[0].seed, todo[0].point) if todo else None

    def _run(self, cell: Cell) -> None:
        folder = RunFolder(self._results.run_folder(cell))
        if self._rank == 0:
            shutil.rmtree(folder.path, ignore_errors=True)
        with suppress(OSError):  # said once, at the beginning
            forget_peak()
        history, observer = History(), CellObserver()
        Job(cell.recipe, folder, resume=False, progress=self._progress, observer=observer, history=history).run()
        lines = folder.lines() if self._rank == 0 else []
        selected = self._comm.bcast(lines[-1]["best_round"] if lines else None)
        parts = self._comm.gather(rank_part(cell.recipe, history, selected))
        if self._rank == 0:
            self._keep(cell, cell_result(cell, Measured(lines, parts or [], observer.parameters)), folder)

    def _keep(self, cell: Cell, result: CellResult, folder: RunFolder) -> None:
        self._results.save(cell, result)
        self._known[cell.name] = result
        folder.drop_rounds(keep_linked=result.costs.parameters_sent <= _KEPT_PARAMETERS)
        self._forget_others(cell)
        target = "" if result.target_accuracy is None else f"  target {100 * result.target_accuracy.selected:.1f}"
        self._say(
            f"[{len(self._known)}/{self._plan.total()}] {cell.name}  validation {100 * result.validation.selected:.1f}"
            f"  test {100 * result.source_mean('selected'):.1f}{target}  {result.costs.seconds_total:.1f} s"
        )

    def _forget_others(self, cell: Cell) -> None:
        """Drop the adapters of grid points that were not chosen; their figures stay."""
        chosen = self._plan.chosen(cell.case, cell.target, self._known)
        for other in self._plan.grid(cell.case, cell.target):
            if chosen is not None and other.point != chosen:
                RunFolder(self._results.run_folder(other)).drop_rounds(keep_linked=False)

    def _agree(self, act: Callable[[], T]) -> T:
        """Let the server act, and tell every rank what came of it, errors included."""
        outcome: T | FedClipError | None = None
        if self._rank == 0:
            try:
                outcome = act()
            except FedClipError as error:
                outcome = error
        outcome = self._comm.bcast(outcome)
        if isinstance(outcome, FedClipError):
            raise outcome
        return cast(T, outcome)


def _explain_termination(results: ResultsFolder, known: dict[str, CellResult]) -> None:
    """When the job is ended from outside, say what is safe and how to go on."""

    def _explain(number: int, frame: FrameType | None) -> None:
        safe = f"{len(known)} cells are complete and safe in {results.path}"
        os.write(2, f"fedclip: the study was stopped; {safe}; run the same command again to go on\n".encode())
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _explain)
