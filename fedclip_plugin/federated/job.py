"""One federation, from a checked recipe to the final table; every rank of the mpirun job runs this."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from fedclip_plugin.adapters.registry import to_tensors
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.build import make_pair
from fedclip_plugin.federated.guard import stop_job
from fedclip_plugin.federated.observer import Observer
from fedclip_plugin.federated.open_run import open_run
from fedclip_plugin.federated.prepare import Preparation
from fedclip_plugin.federated.runner import FedClipRunner
from fedclip_plugin.federated.start import choose_device, log_to, start_fedml
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RunFolder


class Job:
    """A federation of this rank's mpirun job.

    Parameters
    ----------
    recipe
        A checked recipe.
    folder
        The run folder.
    resume
        Continue after the last complete round.
    progress
        Show bars while rendering and encoding.
    observer
        Hears how it goes; only the server's is told.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, resume: bool, progress: bool, observer: Observer) -> None:
        self._recipe, self._folder = recipe, folder
        self._resume, self._progress, self._observer = resume, progress, observer

    def run(self) -> None:
        """Train until the last round.

        Raises
        ------
        FedClipError
            On every rank, before training, when something is wrong with recipe, images, backbone or run folder.
        """
        args = start_fedml(self._recipe, self._folder.path)
        log_to(self._folder.path / "logs", args.rank)
        try:
            self._train(args)
        except FedClipError:
            raise
        except Exception as error:
            stop_job(args.comm, f"rank {args.rank}, outside of a round", error)

    def _train(self, args: Any) -> None:
        args.start_round = open_run(args.comm, self._folder, self._recipe, self._resume)
        if args.start_round >= args.comm_round:
            self._tell(args, f"{self._folder.path} has all {args.start_round} rounds already: nothing to train")
            return
        device = choose_device(args)
        if args.rank == 0:
            self._observer.begin(args.worker_num, args.start_round, device)
        prepared = Preparation(
            self._recipe, args.comm, device, self._progress, lambda text: self._tell(args, text)
        ).run()
        dataset, model, trainer, aggregator = make_pair(args, device, self._recipe, prepared, self._folder)
        if args.rank == 0:
            _explain_termination(self._folder.path)
            if args.start_round:
                model.load_state_dict(to_tensors(self._folder.load_round(args.start_round).tensors))
            self._observer.train(prepared.task, sum(parameter.numel() for parameter in model.parameters()))
        FedClipRunner(args, device, dataset, model, trainer, aggregator, on_line=self._observer.line).run()

    def _tell(self, args: Any, text: str) -> None:
        if args.rank == 0:
            self._observer.say(text)


def _explain_termination(folder: Path) -> None:
    """When the job is ended from outside, or by mpirun because another rank died, say what is safe and how to go on."""

    def _explain(number: int, frame: FrameType | None) -> None:
        lines = RunFolder(folder).lines()
        done = f"round {lines[-1]['round']} is complete and safe" if lines else "no round is complete yet"
        os.write(2, f"fedclip: the job was terminated; {done} in {folder}; continue with --resume\n".encode())
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _explain)
