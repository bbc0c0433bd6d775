"""``fedclip study``: plan a study, run what is missing of it in one mpirun job, and print its tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fedclip_edge.terminal import message, printable
from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.cli.mpirun.run_and_wait import end_with_parent
from fedclip_plugin.cli.run import end_rank, hush_fedml, leave
from fedclip_plugin.data import require_images_here
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.rank_output import keep_own_words
from fedclip_plugin.federated.startup.memory_check import require_memory_here
from fedclip_plugin.ranks import share_cores, world
from fedclip_plugin.recipe import find_study
from fedclip_plugin.study import Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.definition import Study, load_study
from fedclip_plugin.study.running.estimate import estimate_table
from fedclip_plugin.study.tables.accuracy_rows import unasked
from fedclip_plugin.study.tables.summary import Form, summary

_HOME = Path("runs/studies")


def study(
    name: str,
    out: Path | None,
    dry_run: bool,
    form: Form | None,
    overrides: Sequence[str],
    progress: bool,
    debug: bool,
) -> int:
    """Print the plan of a study and run what is missing in one mpirun job; inside mpirun, be one of its ranks.

    Parameters
    ----------
    name
        A path, or a name that ``fedclip ls`` shows.
    out
        The results folder; None takes ``runs/studies/<study>``.
    dry_run
        Stop after the plan.
    form
        Print the tables of the results that are there, in this form, and stop; None runs the study.
    overrides
        ``section.key=value`` each, for every cell.
    progress
        Show bars while rendering and encoding.
    debug
        Show tracebacks.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    FedClipError
        When study or results folder are at fault, images are missing, this host has too little memory for the largest
        cell, or there is no mpirun. Inside mpirun, what is wrong is said once, and the rank ends.
    """
    here = world()
    if here:
        end_with_parent()
    try:
        path = find_study(name)
        checked = load_study(path, overrides)
        results = ResultsFolder(out or _HOME / checked.study)
        if here:
            _take_part(checked, results, progress, here)
    except FedClipError as error:
        if here:
            end_rank(here[0], error, debug)
        raise
    findings = StudyResults.read(Plan(checked), results)
    for fault in findings.faults if dry_run or form is not None else ():  # else the job tells
        print(message(fault), file=sys.stderr)
    if form is not None or not (findings.todo() or unasked(findings)):
        print(summary(findings, form or "text"))
        return 0
    print(estimate_table(findings).to_text())
    if dry_run:
        return 0
    results.require_free()
    todo = findings.todo()
    for recipe in {cell.target: cell.recipe for cell in todo}.values():  # all cells have the same folders
        require_images_here(recipe)
    if todo:
        require_memory_here(cell.recipe for cell in todo)
    options = [word for override in overrides for word in ("--set", override)]
    options += ["--progress" if progress else "--no-progress", *(["--debug"] if debug else [])]
    return _launch(checked, results, [str(path), "--out", str(results.path), *options])


def _launch(checked: Study, results: ResultsFolder, words: Sequence[str]) -> int:
    """Run the same command as one mpirun job, tell what is safe if it ends early, and return its exit code."""
    with results.launching():
        ending = Launch(_ranks(checked)).attend([sys.executable, "-m", "fedclip_plugin", "study", *words])
        if ending.code:
            _account_for(checked, results, ending.told)
    return ending.code


def _take_part(checked: Study, results: ResultsFolder, progress: bool, here: tuple[int, int]) -> NoReturn:
    rank, size = here
    if size != _ranks(checked):
        raise FedClipError(
            f"mpirun started {size} ranks; this study takes {_ranks(checked)} (a server and {_ranks(checked) - 1} "
            "silos). Start it outside of mpirun with: fedclip study"
        )
    if rank == 0:
        results.claim()
    keep_own_words(results.path / "logs" / f"rank_{rank}.log")
    hush_fedml()
    share_cores()
    from fedclip_plugin.study.running.study_job import StudyJob

    StudyJob(checked, results, progress, lambda line: _say(printable(line))).run()
    if rank == 0:
        _say("")
        _say(summary(StudyResults.read(Plan(checked), results)))
    leave()


def _account_for(checked: Study, results: ResultsFolder, told: bool) -> None:
    """Say what is safe of a job that did not come to its end, and whether a cell is to blame.

    Whichever rank fails, mpirun ends the others by the signal by which a user stops them all, and lets nobody speak
    then: only out here it is clear. Nothing is said of a job that another one kept out.
    """
    try:
        results.claim()
    except FedClipError as error:
        print(f"fedclip: {error}", file=sys.stderr)
        return
    if told:
        results.failures.clear()
    for cell in results.failures.count():
        print(f"fedclip: the job ended in cell {cell}; with the same command it comes last", file=sys.stderr)
    results.release()
    safe = f"{len(StudyResults.read(Plan(checked), results).results)} cells are complete and safe in {results.path}"
    print(f"fedclip: the study was stopped; {safe}; run the same command again to go on", file=sys.stderr)


def _ranks(checked: Study) -> int:
    """Return the ranks of the one job: all cells have the same number of silos."""
    return Plan(checked).recipe(next(iter(checked.cases))).train_args.client_num_in_total + 1


def _say(text: str) -> None:
    print(text, flush=True)
