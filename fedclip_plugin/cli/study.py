"""``fedclip study``: plan a study, run what is missing of it in one mpirun job, and print its tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fedclip_edge.arguments import path_argument
from fedclip_edge.machine import cores
from fedclip_edge.terminal import message, printable
from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.cli.mpirun.run_and_wait import end_with_parent
from fedclip_plugin.cli.options import add_overrides, add_progress
from fedclip_plugin.cli.run import end_rank, leave
from fedclip_plugin.data import require_images_here
from fedclip_plugin.errors import FedClipError, RunFolderError
from fedclip_plugin.federated.fedml_imports import import_fedml
from fedclip_plugin.federated.rank_output import keep_own_words
from fedclip_plugin.federated.startup.memory_check import require_memory_here
from fedclip_plugin.ranks import share_cores, world
from fedclip_plugin.recipe import find_study
from fedclip_plugin.study import Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.running.estimate import estimate_table
from fedclip_plugin.study.tables.accuracy_rows import unasked
from fedclip_plugin.study.tables.difference_tables import difference_tables
from fedclip_plugin.study.tables.summary import Form, summary

_HOME = Path("runs/studies")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("study", metavar="STUDY", help="a file, or a name that 'fedclip ls' shows")
    parser.add_argument("--out", type=path_argument, metavar="DIR", help="results folder (default: runs/studies/NAME)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="print the cells and an estimate of the time, and stop")
    instead.add_argument(
        "--table",
        nargs="?",
        const="text",
        choices=("text", "markdown", "csv"),
        help="print the tables of the results that are there, and stop",
    )
    instead.add_argument(
        "--difference",
        nargs=2,
        metavar="CASE",
        help="print how far one case is above another, with 95 %% intervals, and stop",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="CASE", help="run and print this case alone; may be repeated"
    )
    add_overrides(parser, "override a key of every cell")
    add_progress(parser)


def act(options: argparse.Namespace) -> int:
    """Print the plan of a study and run what is missing in one mpirun job; inside mpirun, be one of its ranks.

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
        path = find_study(options.study)
        plan = Plan(load_study(path, options.overrides), options.only)
        results = ResultsFolder(options.out or _HOME / plan.study.study)
        if here:
            _take_part(plan, options.only, results, options.progress, here)
    except FedClipError as error:
        if here:
            end_rank(here[0], error, options.debug)
        raise
    findings = StudyResults.read(plan, results)
    if options.difference:
        print(_differences(findings, results, *options.difference))
        return 0
    if _print(findings, options):
        return 0
    _require_start(findings, results)
    words = [word for override in options.overrides for word in ("--set", override)]
    words += [word for case in options.only for word in ("--only", case)]
    words += ["--progress" if options.progress else "--no-progress", *(["--debug"] if options.debug else [])]
    return _launch(plan, results, [str(path), "--out", str(results.path), *words])


def _print(findings: StudyResults, options: argparse.Namespace) -> bool:
    """Print the tables of a complete study, or its plan; return whether that is all."""
    form: Form | None = options.table
    for fault in findings.faults if options.dry_run or form is not None else ():  # else the job tells
        print(message(fault), file=sys.stderr)
    complete = not (findings.todo() or unasked(findings))
    if form is not None or complete:
        print(summary(findings, form or "text"))
        return True
    print(estimate_table(findings).to_text())
    return bool(options.dry_run)


def _require_start(findings: StudyResults, results: ResultsFolder) -> None:
    """See that the folder is free, and that images and memory are there for what is to run."""
    results.require_free()
    todo = findings.todo()
    # All cells have the same folders, which cases of simulations may share out differently.
    kinds = {(cell.target, cell.recipe.data_args.model_dump_json()): cell.recipe for cell in todo}
    for recipe in kinds.values():
        require_images_here(recipe)
    if todo:
        require_memory_here(cell.recipe for cell in todo)


def _differences(findings: StudyResults, results: ResultsFolder, first: str, second: str) -> str:
    """Return the tables of the difference between two cases."""
    findings.plan.study.only([first, second])
    for fault in findings.faults:
        print(message(fault), file=sys.stderr)
    if found := difference_tables(findings, results, first, second):
        return "\n\n".join(table.to_text() for table in found)
    raise RunFolderError(
        f"{results.path}: {first} and {second} have no target and seed in common yet; run them with: fedclip study "
        f"STUDY --only {first} --only {second}"
    )


def _launch(plan: Plan, results: ResultsFolder, words: Sequence[str]) -> int:
    """Run the same command as one mpirun job, tell what is safe if it ends early, and return its exit code."""
    with results.launching():
        ending = Launch(_ranks(plan)).attend([sys.executable, "-m", "fedclip_plugin", "study", *words])
        if ending.code:
            _account_for(plan, results, ending.told)
    return ending.code


def _take_part(
    plan: Plan, only: Sequence[str], results: ResultsFolder, progress: bool, here: tuple[int, int]
) -> NoReturn:
    rank, size = here
    if size != _ranks(plan):
        noun = "workers" if plan.recipe(next(iter(plan.study.cases))).simulated else "silos"
        raise FedClipError(
            f"mpirun started {size} ranks; this study takes {_ranks(plan)} (a server and {_ranks(plan) - 1} "
            f"{noun}). Start it outside of mpirun with: fedclip study"
        )
    if rank == 0:
        results.claim()
    keep_own_words(results.path / "logs" / f"rank_{rank}.log")
    share_cores()
    import_fedml()
    from fedclip_plugin.study.running.study_job import StudyJob

    StudyJob(plan.whole, results, progress, lambda line: _say(printable(line)), only).run()
    if rank == 0:
        _say("")
        _say(summary(StudyResults.read(plan, results)))
    leave()


def _account_for(plan: Plan, results: ResultsFolder, told: bool) -> None:
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
    count = len(StudyResults.read(plan, results).results)
    safe = f"{count} {'cell is' if count == 1 else 'cells are'} complete and safe in {results.path}"
    print(f"fedclip: the study was stopped; {safe}; run the same command again to go on", file=sys.stderr)


def _ranks(plan: Plan) -> int:
    """Return the ranks of the one job: all cells have the same number of silos, or of workers, each with a client."""
    recipes = [plan.recipe(case) for case in plan.study.cases]
    fewest = min(recipe.train_args.client_num_per_round for recipe in recipes)
    return recipes[0].rank_count(workers=min(cores(), fewest))


def _say(text: str) -> None:
    print(text, flush=True)
