"""``fedclip run`` inside mpirun, and ``fedclip launch`` that starts it."""

from __future__ import annotations

import atexit
import ctypes
import os
import shlex
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn

from fedclip_edge.terminal import say_at_once
from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.cli.mpirun.run_and_wait import ATTENDED, Ending, end_with_parent
from fedclip_plugin.data import require_images_here
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.rank_output import keep_own_words, say
from fedclip_plugin.federated.startup.memory_check import require_memory_here
from fedclip_plugin.ranks import share_cores, world
from fedclip_plugin.recipe import Recipe, default_run_dir, find_recipe, load_recipe
from fedclip_plugin.report.tensorboard import TensorBoard, require_tensorboard
from fedclip_plugin.runs import RunFolder

_SPEAKER_SECONDS = 30.0
_LEAVE_SECONDS = 60.0
"""How long the server, which is the last to be done, waits for the others to end."""

_SUMMARY_SECONDS = 7200.0
"""How long silos wait meanwhile: the server still draws up the tables of a study."""


def run(
    recipe_name: str, run_dir: Path | None, resume: bool, overrides: Sequence[str], progress: bool, debug: bool
) -> NoReturn:
    """Take part in a federation as this rank of an mpirun job.

    Parameters
    ----------
    recipe_name
        A path, or a name that ``fedclip ls`` shows.
    run_dir
        The run folder; None leaves it to the recipe.
    resume
        Continue after the last complete round.
    overrides
        ``section.key=value`` each.
    progress
        Show bars.
    debug
        Show tracebacks.

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
        path = find_recipe(recipe_name)
        recipe = load_recipe(path, overrides)
        _require_world(here, recipe, recipe_name)
        if rank == 0:
            _require_tracking(recipe)
        folder = _run_dir(recipe, run_dir, path)
        keep_own_words(folder / "logs" / f"rank_{rank}.log")
        _federate(recipe, folder, resume, progress, rank)
    except FedClipError as error:
        if here is None:
            raise
        end_rank(rank, error, debug)


def launch(
    recipe_name: str,
    run_dir: Path | None,
    resume: bool,
    overrides: Sequence[str],
    progress: bool,
    debug: bool,
    hostfile: Path | None,
) -> int:
    """Check a recipe, print the mpirun command that runs it, run it, and say what is safe when it ends early.

    Parameters
    ----------
    recipe_name, run_dir, resume, overrides, progress, debug
        As for :func:`run`.
    hostfile
        Open MPI's list of hosts, the server's first; None runs all ranks here.

    Returns
    -------
    int
        Exit code: that of mpirun, or 128 and the number of the signal that stopped it.

    Raises
    ------
    FedClipError
        When the recipe is at fault, the run folder is in use, images are missing, the hostfile is missing, this host
        has too little memory for all ranks, or there is no mpirun.
    """
    path = find_recipe(recipe_name)
    recipe = load_recipe(path, overrides)
    _require_tracking(recipe)
    if hostfile is not None and not hostfile.is_file():
        raise FedClipError(f"hostfile {hostfile} does not exist: write one line a host, such as 'host1 slots=1'")
    folder = RunFolder(_run_dir(recipe, run_dir, path))
    if hostfile is None:  # else run folder, backbone and ranks may be on other hosts; the ranks look in any case
        folder.require_free()
        folder.check(recipe.to_yaml(), recipe.digest(), resume)
        require_images_here(recipe)
        require_memory_here([recipe])
    words = [sys.executable, "-m", "fedclip_plugin", "run", str(path)]
    words += ["--run", str(run_dir)] if run_dir else []
    words += ["--resume"] if resume else []
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--progress" if progress else "--no-progress"]
    words += ["--debug"] if debug else []
    job = Launch(recipe.train_args.client_num_in_total + 1, hostfile)
    with folder.launching() if hostfile is None else nullcontext():
        ending = job.attend(words)
        if ending.told or ending.code not in (0, FedClipError.exit_code):  # bad input was told, and nothing was begun
            _account_for(folder, ending, hostfile)
    return ending.code


def _run_dir(recipe: Recipe, given: Path | None, path: Path) -> Path:
    return given or recipe.fedclip_args.run_dir or default_run_dir(path)


def _require_world(here: tuple[int, int] | None, recipe: Recipe, name: str) -> None:
    ranks = recipe.train_args.client_num_in_total + 1
    if here is None:
        raise FedClipError(
            f"'fedclip run' is one rank of an mpirun job; this recipe needs {ranks} (a server and {ranks - 1} silos). "
            f"Start it with: fedclip launch {shlex.quote(name)}"
        )
    if here[1] != ranks:
        raise FedClipError(
            f"mpirun started {here[1]} ranks; client_num_in_total is {ranks - 1}, so it takes {ranks} (a server and "
            f"{ranks - 1} silos). Start it with: fedclip launch {shlex.quote(name)}"
        )


def _require_tracking(recipe: Recipe) -> None:
    if recipe.tracking_args.enable_tensorboard:
        require_tensorboard()


def _federate(recipe: Recipe, run_dir: Path, resume: bool, progress: bool, rank: int) -> NoReturn:
    folder = RunFolder(run_dir)
    if rank == 0:
        folder.claim()
    hush_fedml()
    share_cores()
    from fedclip_plugin.federated.job import Job
    from fedclip_plugin.report.console import Console

    console = Console(recipe, folder, on_training=lambda: _explain_termination(folder))
    tracked = recipe.tracking_args.enable_tensorboard
    observer = TensorBoard(console, folder.path / "tensorboard") if tracked else console
    Job(recipe, folder, resume, progress, observer).run()
    if rank == 0:
        console.finish()
    leave()


def _explain_termination(folder: RunFolder) -> None:
    """When mpirun ends the job because another rank died, say what is safe, unless a launcher does."""

    def _explain(number: int, frame: FrameType | None) -> None:
        say_at_once(f"fedclip: the job was terminated; {_safe(folder)}")
        os._exit(128 + number)

    if ATTENDED not in os.environ:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _explain)


def _account_for(folder: RunFolder, ending: Ending, hostfile: Path | None) -> None:
    """Say what is safe of a job that did not come to its end: mpirun drops the last words of ranks that it ends."""
    what = "the job was terminated" if ending.told else "the job ended early"
    if hostfile is not None and not folder.path.exists():
        safe = f"what is complete lies in {folder.path} on the server's host; continue with --resume"
    else:
        safe = _safe(folder)
    print(f"fedclip: {what}; {safe}", file=sys.stderr, flush=True)


def _safe(folder: RunFolder) -> str:
    """Return which rounds are safe, and how to go on."""
    try:
        lines = folder.lines()
    except FedClipError as error:
        return str(error)
    if not lines or not lines[-1].get("round"):
        return f"no round is complete yet in {folder.path}; start it again with the same command"
    return f"round {lines[-1]['round']} is complete and safe in {folder.path}; continue with --resume"


def leave() -> NoReturn:
    """End this rank, with all others, at once: freeing every module that fedml imported takes over a second a rank."""
    from mpi4py import MPI

    from fedclip_plugin.federated.managers.watchdog import together

    rank = MPI.COMM_WORLD.Get_rank()
    # Called past mpi4py, which keeps Python's lock meanwhile: the watchdog could not run.
    finalize = getattr(ctypes.CDLL(MPI.__file__), "MPI_Finalize", MPI.Finalize)
    limit = _SUMMARY_SECONDS if rank else _LEAVE_SECONDS
    with together(None, f"rank {rank}, with everything done and saved", "its end", limit):
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


def hush_fedml() -> None:
    """Keep warnings about FedML's own old imports off the console; nobody here can mend them."""
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    warnings.filterwarnings("ignore", message=".*doesn't match a supported version")
