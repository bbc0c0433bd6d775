"""``fedclip launch``: check a recipe, and run it under mpirun."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fedclip_edge.arguments import path_argument
from fedclip_edge.machine import cores
from fedclip_edge.terminal import printable
from fedclip_plugin.cli import run
from fedclip_plugin.cli.mpirun.command import Launch, Watch, require_options
from fedclip_plugin.cli.mpirun.hostfile import hostfile_text, is_here, rank_hosts, require_slots, told_hosts
from fedclip_plugin.cli.mpirun.keep_going import keep_going, require_placing, require_recipe
from fedclip_plugin.cli.mpirun.run_and_wait import Ending, JobSignals
from fedclip_plugin.data import require_images_here
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.fedml_imports import import_fedml
from fedclip_plugin.federated.members import Members, names_of_silos
from fedclip_plugin.federated.startup.memory_check import require_memory_here
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    run.add(parser)
    parser.add_argument(
        "--hostfile", type=path_argument, metavar="FILE", help="Open MPI's list of hosts, the server's first"
    )
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="when a silo's rank or host is gone, start again without it, while min_silos remain "
        "(with secure_sums only under on_missing: redo)",
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
        few slots or names a host that cannot be reached, an option after -- is none for mpirun, a silo cannot be left
        out, this host has too little memory for all ranks, or there is no mpirun.
    """
    path, hostfile, more = find_recipe(options.recipe), options.hostfile, require_options(options.mpirun_options)
    recipe = load_recipe(path, options.overrides)
    run.require_tracking(recipe)
    if options.keep_going:
        require_recipe(recipe)
    members = Members.of(recipe, options.without)
    ranks = recipe.rank_count(workers=min(cores(), recipe.train_args.client_num_per_round)) - len(members.away)
    if hostfile is not None and ranks == 1:
        raise FedClipError(f"backend: sp is one process, so that {hostfile} has no use: leave out one of the two")
    if more and ranks == 1:
        raise FedClipError("backend: sp is one process without mpirun, so that options after -- have no use")
    job = _Job(options, path, recipe, RunFolder(run.run_folder(recipe, options.run_dir, path)), more, ranks)
    job = replace(job, hosts=job.every_host(members))
    beside = hostfile is None or options.keep_going  # whether the server, and so the run folder, is on this machine
    if beside:
        job.folder.require_free()
        records = job.folder.check(recipe.to_yaml(), recipe.digest(), options.resume)
        job.folder.require_rounds(records, recipe.train_args.comm_round)
        members.require_same_sums(recipe, records)
    if hostfile is None:  # else backbone, images and ranks may be on other hosts; the ranks look in any case
        require_images_here(recipe, members.away)
        require_memory_here([recipe], len(members.away))
    if ranks == 1:
        return _here(recipe, job.folder, options)
    with job.folder.launching() if beside else nullcontext():
        return job.run(members)


@dataclass(frozen=True)
class _Job:
    """What is launched: once, or again without the silos that are lost."""

    options: argparse.Namespace
    recipe_path: Path
    recipe: Recipe
    folder: RunFolder
    more: tuple[str, ...]  # options for mpirun
    ranks: int  # of the first start
    hosts: tuple[str, ...] | None = None  # of each rank with everybody there; None where nobody needs to know

    def every_host(self, members: Members) -> tuple[str, ...] | None:
        """Return the host of each rank of all silos, where it matters, and say which ranks run where.

        Raises
        ------
        FedClipError
            The hostfile lacks slots, or does not tell what has to be known to leave a silo out.
        """
        hostfile = self.options.hostfile
        if hostfile is None:
            return None
        if not (members.away or self.options.keep_going):
            print(require_slots(hostfile, self.ranks), flush=True)
            return None
        require_placing(self.more)
        found = rank_hosts(hostfile, members.total + 1)
        if self.options.keep_going and not is_here(found[0]):
            raise FedClipError(
                f"--keep-going: the server runs on {printable(found[0])}, the first host of {hostfile}, and this is "
                "another machine, from which neither the run folder can be seen nor whom the server waits for: start "
                "it there, or write this machine's name as the first line"
            )
        return found

    def hosts_of(self, members: Members) -> tuple[str, ...] | None:
        """Return the host of each rank of a job of some silos; None where nobody needs to know."""
        return None if self.hosts is None else tuple(self.hosts[number] for number in (0, *members.numbers))

    def run(self, members: Members) -> int:
        """Start it, start it again where that is asked for, say what is safe, and return the exit code."""
        lost: Mapping[int, str] = {}
        before = self._rounds()
        with TemporaryDirectory(prefix="fedclip_launch_") as place:
            if self.options.keep_going:
                signals, names = JobSignals(), names_of_silos(self.recipe)
                start = partial(self._start, Path(place), signals)
                ending, lost = keep_going(start, self.recipe, members, names, self.hosts_of, self._progress)
            else:
                ending = self._start(Path(place), None, members, again=False)
        begun = ending.code != FedClipError.exit_code or self._rounds() != before  # else bad input was told
        if ending.told or (ending.code and begun):
            who = None if self.options.keep_going else self._who(ending, members)
            _account_for(self.folder, ending, self.options.hostfile, who)
        elif lost and not ending.code:
            told = ", ".join(printable(name) for name in lost.values())
            print(f"fedclip: the job came to its end without {told}", file=sys.stderr, flush=True)
        return ending.code

    def _start(self, place: Path, signals: JobSignals | None, members: Members, again: bool) -> Ending:
        """Start a job of some silos; ``place`` is a folder for what it reads and notes."""
        hosts, hostfile = self.hosts_of(members), None
        if hosts is not None:
            print(told_hosts(hosts), flush=True)
            hostfile = place / "hosts"
            hostfile.write_text(hostfile_text(hosts), encoding="utf-8")
        ranks = len(members.present) + 1 if members.away else self.ranks
        job = Launch(ranks, self.options.hostfile, self.more, hostfile)
        words = _words(self.options, self.recipe_path, self.folder, members, again)
        if signals is None:
            return job.attend(words)
        note = place / "silent.json"
        note.unlink(missing_ok=True)
        return job.attend(words, Watch(signals, note, again))

    def _rounds(self) -> int:
        """Return how many rounds are complete, as far as it can be seen from here."""
        try:
            records = self.folder.rounds()
        except FedClipError:  # of which there has been word
            return 0
        return records[-1].round if records else 0

    def _progress(self) -> str:
        """Return from where the job goes on."""
        done = self._rounds()
        return f"after round {done}" if done else "from the beginning"

    def _who(self, ending: Ending, members: Members) -> str | None:
        """Return which rank ended the job without a word of its own, as a sentence; None where none did."""
        end = ending.rank
        if end is None or end.code is not None:
            return None
        who = members.who(self.recipe, end.rank) if end.rank else "the server (rank 0)"
        return f"{printable(who)} {end.how}"


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


def _words(options: argparse.Namespace, path: Path, folder: RunFolder, members: Members, again: bool) -> list[str]:
    """Return the command of one rank; a job that is started ``again`` resumes what there is.

    With a hostfile its paths are whole: a host that lacks the folder in which this was started takes another one.
    """
    words = [sys.executable, "-m", "fedclip_plugin", "run"]
    if options.hostfile is not None:
        words += [str(path.absolute()), "--run", str(folder.path.absolute())]
    else:
        words += [str(path), *(["--run", str(options.run_dir)] if options.run_dir else [])]
    words += ["--resume"] if options.resume or again else []
    words += [f"--without={name}" for name in members.without]  # a name may begin with a dash
    words += [word for override in options.overrides for word in ("--set", override)]
    words += ["--progress" if _progress(options) else "--no-progress"]
    return words + (["--debug"] if options.debug else [])


def _account_for(folder: RunFolder, ending: Ending, hostfile: Path | None, who: str | None = None) -> None:
    """Say what is safe of a job that did not come to its end: mpirun drops the last words of ranks that it ends."""
    what = "the job was terminated" if ending.told else "the job ended early"
    if who and not ending.told:
        what += f": {who}"
    if hostfile is not None and not folder.path.exists():
        safe = f"what is complete lies in {folder.path} on the server's host; continue with --resume"
    else:
        safe = run.what_is_safe(folder)
    print(f"fedclip: {what}; {safe}", file=sys.stderr, flush=True)
