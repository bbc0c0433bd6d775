"""``fedclip run``: one rank of an mpirun job."""

from __future__ import annotations

import argparse
import atexit
import ctypes
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from fedclip_edge.arguments import path_argument
from fedclip_edge.terminal import printable, say_at_once
from fedclip_plugin.cli.mpirun.run_and_wait import ATTENDED, end_with_parent
from fedclip_plugin.cli.options import add_overrides
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.fedml_imports import import_fedml
from fedclip_plugin.federated.members import Members
from fedclip_plugin.federated.rank_output import keep_own_words, say
from fedclip_plugin.ranks import share_cores, world
from fedclip_plugin.recipe import Recipe, default_run_dir, find_recipe, load_recipe
from fedclip_plugin.report.tensorboard import TensorBoard, require_tensorboard
from fedclip_plugin.runs import RunFolder

_SPEAKER_SECONDS = 30.0
_LEAVE_SECONDS = 60.0
"""How long the server, which is the last to be done, waits for the others to end."""

_SUMMARY_SECONDS = 7200.0
"""How long silos wait meanwhile: the server still draws up the tables of a study."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command, which ``launch`` has too."""
    parser.add_argument("recipe", metavar="RECIPE", help="a file, or a name that 'fedclip ls' shows")
    parser.add_argument(
        "--run",
        dest="run_dir",
        type=path_argument,
        metavar="DIR",
        help="run folder (default: runs/ and the recipe's name)",
    )
    parser.add_argument("--resume", action="store_true", help="continue after the last complete round")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="SILO",
        help="leave out a silo, whose site is gone (needs fedclip_args.min_silos; with secure_sums three must be "
        "left); may be repeated",
    )
    add_overrides(parser, "override a key")
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=None, help="bars while rendering and encoding"
    )


def act(options: argparse.Namespace) -> NoReturn:
    """Take part in a federation as this rank of an mpirun job.

    Raises
    ------
    FedClipError
        Outside of mpirun. Inside, what is wrong is said once, and the rank ends.
    """
    here = world()
    rank = here[0] if here else 0
    if here:
        end_with_parent()
    try:
        path = find_recipe(options.recipe)
        recipe = load_recipe(path, options.overrides)
        members = Members.of(recipe, options.without)
        _require_world(here, recipe, options.recipe, len(members.away))
        if rank == 0:
            require_tracking(recipe)
        folder = run_folder(recipe, options.run_dir, path)
        keep_own_words(folder / "logs" / f"rank_{rank if recipe.simulated else members.number(rank)}.log")
        _federate(recipe, folder, options.resume, bool(options.progress), rank, members)
    except FedClipError as error:
        if here is None:
            raise
        end_rank(rank, error, options.debug)


def run_folder(recipe: Recipe, given: Path | None, path: Path) -> Path:
    """Return where a run goes: as given, as the recipe says, or after the recipe's own name."""
    return given or recipe.fedclip_args.run_dir or default_run_dir(path)


def _require_world(here: tuple[int, int] | None, recipe: Recipe, name: str, away: int = 0) -> None:
    """See that mpirun started as many ranks as have work, where ``away`` silos have none; else a FedClipError."""
    ranks = recipe.rank_count(workers=1) - away
    most = ranks
    if recipe.simulated:
        most = max(ranks, recipe.rank_count(workers=recipe.train_args.client_num_per_round))
    key, noun = ("worker_num", "worker") if recipe.simulated else ("client_num_in_total", "silo")
    others = f"a server and {ranks - 1} {noun}{'s' if ranks > 2 else ''}"
    started = f"mpirun started {here[1]} rank{'s' if here[1] > 1 else ''}" if here else ""
    if here is not None and ranks <= here[1] <= most:
        return
    if recipe.comm_args.backend == "sp":
        fault = f"comm_args.backend: sp is one process without MPI{', but ' + started if started else ''}"
    elif here is None:
        least = "at least " if most > ranks else ""
        fault = f"'fedclip run' is one rank of an mpirun job; this recipe needs {least}{ranks} ({others})"
    elif here[1] > most > ranks:
        own = f"a server and {most - 1} workers"
        fault = f"{started}; with client_num_per_round {most - 1} at most {most} have work ({own})"
    elif most > ranks:
        fault = f"{started}; a simulation takes at least {ranks} ({others})"
    else:
        left = f", of which {away} {'is' if away == 1 else 'are'} left out" if away else ""
        fault = f"{started}; {key} is {ranks - 1 + away}{left}, so it takes {ranks} ({others})"
    raise FedClipError(f"{fault}. Start it with: fedclip launch {shlex.quote(name)}")


def require_tracking(recipe: Recipe) -> None:
    """See that TensorBoard is there where the recipe wants it."""
    if recipe.tracking_args.enable_tensorboard:
        require_tensorboard()


def _federate(recipe: Recipe, run_dir: Path, resume: bool, progress: bool, rank: int, members: Members) -> NoReturn:
    folder = RunFolder(run_dir)
    if rank == 0:
        folder.claim()
    share_cores(len(members.away))
    import_fedml()
    from fedclip_plugin.federated.job import run_job
    from fedclip_plugin.report.console import Console

    console = Console(recipe, folder, on_training=lambda: _explain_termination(folder))
    tracked = recipe.tracking_args.enable_tensorboard
    observer = TensorBoard(console, folder.path / "tensorboard") if tracked else console
    missing = run_job(recipe, folder, resume, progress, observer, members=members)
    if rank == 0:
        _tell_results(console.finish)
    if recipe.fedclip_args.round_grace is not None:
        _leave_without(missing, recipe, members)
    leave()


def _explain_termination(folder: RunFolder) -> None:
    """When mpirun ends the job because another rank died, say what is safe, unless a launcher does."""

    def _explain(number: int, frame: FrameType | None) -> None:
        say_at_once(f"fedclip: the job was terminated; {what_is_safe(folder)}")
        os._exit(128 + number)

    if ATTENDED not in os.environ:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _explain)


def what_is_safe(folder: RunFolder) -> str:
    """Return which rounds are safe, and how to go on."""
    try:
        records = folder.rounds()
    except FedClipError as error:
        return str(error)
    if not records or not records[-1].round:
        return f"no round is complete yet in {folder.path}; start it again with the same command"
    return f"round {records[-1].round} is complete and safe in {folder.path}; continue with --resume"


def _tell_results(finish: Callable[[], None]) -> None:
    """Print the closing table; the others wait in MPI meanwhile, and would for ever if this only failed."""
    from mpi4py import MPI

    from fedclip_plugin.federated.stop import stop_job

    try:
        finish()
    except Exception as error:
        stop_job(MPI.COMM_WORLD, "server (rank 0), after the last round, with all adapters saved", error)


def _leave_without(missing: Sequence[int], recipe: Recipe, members: Members) -> None:
    """End the job on the server where silos are missing; they never come to the end that MPI waits for."""
    from mpi4py import MPI

    from fedclip_plugin.federated.departure import await_done, say_done

    comm = MPI.COMM_WORLD
    if comm.Get_rank():
        say_done(comm)
        return
    there = [rank for rank in range(1, comm.Get_size()) if rank not in missing]
    absent = sorted({*missing, *await_done(comm, there, _LEAVE_SECONDS)})
    if absent:
        told = ", ".join(members.who(recipe, rank) for rank in absent)
        _end_without(f"{told}, which gave no answer in the end")


def _end_without(told: str) -> NoReturn:
    """End the job, with which all is done and saved, for those too who do not come to its end."""
    from mpi4py import MPI

    from fedclip_plugin.federated.departure import end_job

    print(printable(f"the job ends without {told}; all results are saved"))
    sys.stdout.flush()
    sys.stderr.flush()
    end_job(MPI.COMM_WORLD)


def leave() -> NoReturn:
    """End this rank, with all others, at once: freeing every module that fedml imported takes over a second a rank.

    The server, with which all is done and saved, ends who does not come to the end, as somebody who is frozen.
    """
    from mpi4py import MPI

    from fedclip_plugin.federated.managers.watchdog import together, within

    rank = MPI.COMM_WORLD.Get_rank()
    if rank:
        guard = together(None, f"rank {rank}, with everything done and saved", "its end", _SUMMARY_SECONDS)
    else:
        guard = within(_LEAVE_SECONDS, partial(_end_without, "another rank, which does not come to its end"))
    # Called past mpi4py, which keeps Python's lock meanwhile: the watchdog could not run.
    finalize = getattr(ctypes.CDLL(MPI.__file__), "MPI_Finalize", MPI.Finalize)
    with guard:
        finalize()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def end_rank(rank: int, error: FedClipError, debug: bool) -> NoReturn:
    """Say what is wrong and end this rank, at which mpirun ends the others.

    Most faults are found by every rank: rank 0 speaks at once, and another one only if that has not ended the job. A
    normal exit would wait in MPI_Finalize for ranks that are still waiting for their turn to speak.
    """
    time.sleep(_SPEAKER_SECONDS if rank else 0)
    sys.stdout.flush()
    say(
        "".join(traceback.format_exception(error)).rstrip() if debug else f"fedclip: {error}",
        f"fedclip: rank {rank} ends: {type(error).__name__}; what it says stays on its machine",
    )
    os._exit(error.exit_code)
