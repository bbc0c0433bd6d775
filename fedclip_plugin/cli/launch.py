"""``fedclip launch``: check a recipe, and run it under mpirun."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from fedclip_edge.arguments import path_argument
from fedclip_edge.machine import cores
from fedclip_plugin.cli import run
from fedclip_plugin.cli.mpirun.command import Launch, require_options
from fedclip_plugin.cli.mpirun.hostfile import require_slots
from fedclip_plugin.cli.mpirun.run_and_wait import Ending
from fedclip_plugin.data import require_images_here
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.fedml_imports import import_fedml
from fedclip_plugin.federated.members import Members
from fedclip_plugin.federated.startup.memory_check import require_memory_here
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    run.add(parser)
    parser.add_argument(
        "--hostfile", type=path_argument, metavar="FILE", help="Open MPI's list of hosts, the server's first"
    )
    parser.set_defaults(mpirun_options=())
    parser.description = f"{parser.description}; what stands after -- are options of mpirun"


def act(options: argparse.Namespace) -> int:
    """Check a recipe, print the mpirun command that runs it, run it, and say what is safe when it ends early.

    Returns
    -------
    int
        Exit code: that of mpirun, or 128 and the number of the signal that stopped it.

    Raises
    ------
    FedClipError
        When the recipe is at fault, the run folder is in use, images are missing, the hostfile is missing, has too
        few slots or names a host that cannot be reached, an option after -- is none for mpirun, this host has too
        little memory for all ranks, or there is no mpirun.
    """
    path, hostfile, more = find_recipe(options.recipe), options.hostfile, require_options(options.mpirun_options)
    recipe = load_recipe(path, options.overrides)
    run.require_tracking(recipe)
    members = Members.of(recipe, options.without)
    ranks = recipe.rank_count(workers=min(cores(), recipe.train_args.client_num_per_round)) - len(members.away)
    if hostfile is not None and ranks == 1:
        raise FedClipError(f"backend: sp is one process, so that {hostfile} has no use: leave out one of the two")
    if more and ranks == 1:
        raise FedClipError("backend: sp is one process without mpirun, so that options after -- have no use")
    if hostfile is not None:
        print(require_slots(hostfile, ranks), flush=True)
    folder = RunFolder(run.run_folder(recipe, options.run_dir, path))
    if hostfile is None:  # else run folder, backbone and ranks may be on other hosts; the ranks look in any case
        folder.require_free()
        records = folder.check(recipe.to_yaml(), recipe.digest(), options.resume)
        folder.require_rounds(records, recipe.train_args.comm_round)
        require_images_here(recipe, members.away)
        require_memory_here([recipe], len(members.away))
    if ranks == 1:
        return _here(recipe, folder, options)
    job = Launch(ranks, hostfile, more)
    with folder.launching() if hostfile is None else nullcontext():
        ending = job.attend(_words(options, path, folder))
        if ending.told or ending.code not in (0, FedClipError.exit_code):  # bad input was told, and nothing was begun
            _account_for(folder, ending, hostfile)
    return ending.code


def _here(recipe: Recipe, folder: RunFolder, options: argparse.Namespace) -> int:
    """Run a simulation in this process (``backend: sp``)."""
    import_fedml()
    from fedclip_plugin.federated.job_here import run_job_here
    from fedclip_plugin.report.console import Console

    console = Console(recipe, folder, on_training=lambda: None)
    run_job_here(recipe, folder, options.resume, _progress(options), console)
    console.finish()
    return 0


def _progress(options: argparse.Namespace) -> bool:
    shown: bool = sys.stderr.isatty() if options.progress is None else options.progress
    return shown


def _words(options: argparse.Namespace, path: Path, folder: RunFolder) -> list[str]:
    """Return the command of one rank.

    With a hostfile its paths are whole: a host that lacks the folder in which this was started takes another one.
    """
    words = [sys.executable, "-m", "fedclip_plugin", "run"]
    if options.hostfile is not None:
        words += [str(path.absolute()), "--run", str(folder.path.absolute())]
    else:
        words += [str(path), *(["--run", str(options.run_dir)] if options.run_dir else [])]
    words += ["--resume"] if options.resume else []
    words += [word for name in options.without for word in ("--without", name)]
    words += [word for override in options.overrides for word in ("--set", override)]
    words += ["--progress" if _progress(options) else "--no-progress"]
    return words + (["--debug"] if options.debug else [])


def _account_for(folder: RunFolder, ending: Ending, hostfile: Path | None) -> None:
    """Say what is safe of a job that did not come to its end: mpirun drops the last words of ranks that it ends."""
    what = "the job was terminated" if ending.told else "the job ended early"
    if hostfile is not None and not folder.path.exists():
        safe = f"what is complete lies in {folder.path} on the server's host; continue with --resume"
    else:
        safe = run.what_is_safe(folder)
    print(f"fedclip: {what}; {safe}", file=sys.stderr, flush=True)
