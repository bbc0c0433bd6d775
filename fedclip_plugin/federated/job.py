"""One federation, from a checked recipe to the final table; every rank of the mpirun job runs this."""

from __future__ import annotations

from typing import Any

import torch

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.build import make_pair
from fedclip_plugin.federated.managers.observer import Observer
from fedclip_plugin.federated.managers.runner import FedClipRunner
from fedclip_plugin.federated.roles.answer_history import AnswerHistory
from fedclip_plugin.federated.startup.fedml_args import choose_device, start_fedml
from fedclip_plugin.federated.startup.preflight import open_run
from fedclip_plugin.federated.startup.preparation import Preparation
from fedclip_plugin.federated.startup.rank_log import log_to
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.methods import parameters_of
from fedclip_plugin.methods.create import load_saved
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
    history
        Where every round's answers are kept; None keeps none.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        resume: bool,
        progress: bool,
        observer: Observer,
        history: AnswerHistory | None = None,
    ) -> None:
        self._recipe, self._folder = recipe, folder
        self._resume, self._progress, self._observer = resume, progress, observer
        self._history = history

    def run(self) -> None:
        """Train until the last round; MPI stays open, so that another job may follow.

        Raises
        ------
        FedClipError
            On every rank, before training, when something is wrong with recipe, images, backbone or run folder, or
            when a host has too little memory.
        """
        args = start_fedml(self._recipe)
        try:
            with log_to(self._folder.path / "logs", args.rank):
                self._train(args)
        except FedClipError:
            raise
        except Exception as error:
            stop_job(args.comm, f"rank {args.rank}, outside of a round", error)
        finally:
            self._folder.release()

    def _train(self, args: Any) -> None:
        done = open_run(args.comm, self._folder, self._recipe, self._resume)
        if done >= args.comm_round:
            self._tell(args, f"{self._folder.path} has all {done} rounds already: nothing to train")
            return
        device = choose_device(args)
        if args.rank == 0:
            self._observer.begin(args.worker_num, done, device)
        prepared = Preparation(
            self._recipe, args.comm, device, self._progress, lambda text: self._tell(args, text)
        ).run()
        task = prepared.task
        dataset, model, trainer, aggregator = make_pair(args, device, self._recipe, prepared, self._folder)
        del prepared
        if device.type == "cuda":
            torch.cuda.empty_cache()  # ranks may share the GPU, and most methods are done with the backbone
        if args.rank == 0:
            if done:
                load_saved(model, self._folder.load_round(done))
            self._observer.train(task, sum(tensor.numel() for tensor in parameters_of(model).values()))
        on_round, history = self._observer.round, self._history
        FedClipRunner(args, device, dataset, model, trainer, aggregator, on_round, history).run()

    def _tell(self, args: Any, text: str) -> None:
        if args.rank == 0:
            self._observer.say(text)
