"""``fedclip run`` inside mpirun, and ``fedclip launch`` that starts it."""

from __future__ import annotations

import atexit
import os
import shlex
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fedclip_plugin.commands.mpi import Launch, share_cores, world
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.recipe import Recipe, default_run_dir, find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder

_SPEAKER_SECONDS = 30.0


def run(
    recipe_name: str, run_dir: Path | None, resume: bool, overrides: Sequence[str], progress: bool, debug: bool
) -> int:
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

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    FedClipError
        Outside of mpirun. Inside, what is wrong is said once, and the rank ends.
    """
    here = world()
    rank = here[0] if here else 0
    try:
        path = find_recipe(recipe_name)
        recipe = load_recipe(path, overrides)
        _require_world(here, recipe, recipe_name)
        return _federate(recipe, _run_dir(recipe, run_dir, path), resume, progress, rank)
    except FedClipError as error:
        if here is None:
            raise
        _end_rank(rank, error, debug)


def launch(
    recipe_name: str,
    run_dir: Path | None,
    resume: bool,
    overrides: Sequence[str],
    progress: bool,
    debug: bool,
    hostfile: Path | None,
) -> NoReturn:
    """Check a recipe, print the mpirun command that runs it, and become that command.

    Parameters
    ----------
    recipe_name, run_dir, resume, overrides, progress, debug
        As for :func:`run`.
    hostfile
        Open MPI's list of hosts, the server's first; None runs all ranks here.

    Raises
    ------
    FedClipError
        When the recipe is at fault, the run folder is in use, the hostfile is missing, or there is no mpirun.
    """
    path = find_recipe(recipe_name)
    recipe = load_recipe(path, overrides)
    if hostfile is not None and not hostfile.is_file():
        raise FedClipError(f"hostfile {hostfile} does not exist: write one line a host, such as 'host1 slots=1'")
    if hostfile is None:  # else the run folder may be on another host; the server looks in any case
        RunFolder(_run_dir(recipe, run_dir, path)).check(recipe.to_yaml(), recipe.digest(), resume)
    words = [sys.executable, "-m", "fedclip_plugin", "run", str(path)]
    words += ["--run", str(run_dir)] if run_dir else []
    words += ["--resume"] if resume else []
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--progress" if progress else "--no-progress"]
    words += ["--debug"] if debug else []
    command = Launch(recipe.train_args.client_num_in_total + 1, hostfile).command(words)
    print(f"$ {shlex.join(command)}")
    print("starting the ranks; each of them imports FedML first, which takes some seconds", flush=True)
    # mpirun takes this process's place: Ctrl-C and kill reach it, and its ranks end with it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execve(command[0], command, os.environ | {"PYTHONUNBUFFERED": "1"})


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


def _federate(recipe: Recipe, run_dir: Path, resume: bool, progress: bool, rank: int) -> int:
    _hush_fedml()
    share_cores()
    from fedclip_plugin.federated.job import Job
    from fedclip_plugin.report.console import Console

    folder = RunFolder(run_dir)
    console = Console(recipe, folder)
    Job(recipe, folder, resume, progress, console).run()
    if rank == 0:
        console.finish()
    _leave()
    return 0


def _leave() -> None:
    """End this rank at once when MPI is done: freeing every module that fedml imported takes over a second a rank."""
    from mpi4py import MPI

    if MPI.Is_finalized():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _end_rank(rank: int, error: FedClipError, debug: bool) -> NoReturn:
    """Say what is wrong and end this rank, at which mpirun ends the others.

    Most faults are found by every rank: rank 0 speaks at once, and another one only if that has not ended the job. A
    normal exit would wait in MPI_Finalize for ranks that are still waiting for their turn to speak.
    """
    time.sleep(_SPEAKER_SECONDS if rank else 0)
    text = "".join(traceback.format_exception(error)) if debug else f"fedclip: {error}\n"
    sys.stdout.flush()
    os.write(2, text.encode())
    os._exit(error.exit_code)


def _hush_fedml() -> None:
    """Keep warnings about FedML's own old imports off the console; nobody here can mend them."""
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    warnings.filterwarnings("ignore", message=".*doesn't match a supported version")
