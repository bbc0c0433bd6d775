"""A worker: trains its share of a round's clients one after the other, and scores its share of the images."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedclip_plugin.features import InputSet
from fedclip_plugin.federated.messages.error_feedback import ErrorFeedback
from fedclip_plugin.federated.roles.calibrator import Calibrator
from fedclip_plugin.federated.roles.choice import Chosen, try_sets
from fedclip_plugin.federated.roles.task import LabelledLogits
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.simulation.client_data import ClientData, Job
from fedclip_plugin.federated.simulation.client_table import ClientTable
from fedclip_plugin.federated.simulation.exact_sum import ExactSum
from fedclip_plugin.federated.simulation.round_plan import RoundPlan
from fedclip_plugin.federated.simulation.turns import TrainedClient, Turn, WorkerAnswer
from fedclip_plugin.methods import Adapter, ZeroShot, load_parameters, parameters_of
from fedclip_plugin.methods.closed_form.adapters import ClosedForm
from fedclip_plugin.methods.closed_form.feature_sums import Statistics

Tensors = OrderedDict[str, Tensor]

LOST = "its update is lost (client_drop_rate)"


class Worker:
    """One worker of a simulation.

    Parameters
    ----------
    trainer
        FedML's trainer, which is each client in turn.
    args
        FedML's arguments.
    index, plan
        Which worker this is, and who does what.
    table
        What the clients keep; None when they keep nothing.
    single_updates
        Whether the server needs each update, and not only their sum.
    target
        The target domain, where clients' own adapters are scored on it.
    batched
        Train many clients at once where the method, and what is asked of their updates, allow it: for a GPU.
    """

    def __init__(
        self,
        trainer: FedClipTrainer,
        args: Any,
        device: torch.device,
        data: ClientData,
        plan: RoundPlan,
        index: int,
        table: ClientTable | None,
        single_updates: bool,
        target: InputSet | None = None,
        batched: bool = False,
    ) -> None:
        self._trainer, self._args, self._device, self._data = trainer, args, device, data
        self._plan, self._index, self._table = plan, index, table
        self._single, self._target = single_updates, target
        self._settings, self._task = trainer.settings, trainer.task
        self._opened = False
        self._batched = batched and self._may_batch()

    def act(self, turn: Turn) -> WorkerAnswer:
        """Score the turn's adapter where it is tested, and train from it."""
        if turn.solutions is not None:
            return WorkerAnswer({}, trials=self._try(turn.solutions))
        if self._table is not None and not self._opened:
            self._table.open()
            self._opened = True
        held = Tensors((name, torch.from_numpy(np.array(array))) for name, array in turn.adapter.items())
        began = time.perf_counter()
        predicted = self._score(held) if turn.score else {}
        zero_shot = self._score_zero_shot() if turn.zero_shot else {}
        seconds = {"evaluate": time.perf_counter() - began}
        if not turn.train:
            return WorkerAnswer(predicted, zero_shot, self._personalize(held, turn), seconds=seconds)
        began = time.perf_counter()
        if self._settings.interpolates(turn.number):
            right = self._try_interpolations(held)
            seconds["train"] = time.perf_counter() - began
            return WorkerAnswer(predicted, zero_shot, right=right, seconds=seconds)
        trained, total = self._train(turn.number, held)
        if self._table is not None:
            self._table.flush()
        seconds["train"] = time.perf_counter() - began
        return WorkerAnswer(predicted, zero_shot, trained=tuple(trained), total=total, seconds=seconds)

    def calibrator(self) -> Calibrator:
        """Return what answers for this worker's share of the images, after the last round."""
        return Calibrator(self._trainer.model, self._logits)

    def _logits(self, adapter: Adapter) -> dict[str, LabelledLogits]:
        jobs = [self._plan.jobs[number] for number in self._plan.jobs_of(self._index)]
        found = [self._task.logits(adapter, self._data.images(job).to(self._device)) for job in jobs]
        none = np.empty((0, len(self._task.classes)), np.float32)
        logits = np.concatenate([none, *(own.logits for own in found)])
        labels = np.concatenate([np.empty(0, np.int64), *(own.labels for own in found)])
        tests = np.concatenate([np.empty(0, bool), *(self._data.scored.tests[job.start : job.stop] for job in jobs)])
        return {
            name: LabelledLogits(logits[tests == of_test], labels[tests == of_test])
            for name, of_test in (("validation", False), ("test", True))
        }

    def _score(self, held: Tensors) -> dict[int, NDArray[np.int64]]:
        """Label the images of this worker's jobs by the global adapter, or by each client's own."""
        load_parameters(self._trainer.model, held)
        found = {}
        for number in self._plan.jobs_of(self._index):
            job = self._plan.jobs[number]
            if job.client is not None:
                self._load_own(job.client, held)
            found[number] = self._answer(self._trainer.model, self._data.images(job))
        return found

    def _try_interpolations(self, held: Tensors) -> tuple[int, ...]:
        """Return how many of this worker's validation images each interpolation labels rightly."""
        scored, jobs = self._data.scored, [self._plan.jobs[number] for number in self._plan.jobs_of(self._index)]
        load_parameters(self._trainer.model, held)
        found = []
        for _ in self._trainer.interpolations():
            right = 0
            for job in jobs:
                own = slice(job.start, job.stop)
                labelled = self._answer(self._trainer.model, self._data.images(job)) == scored.labels[own]
                right += int(labelled[~scored.tests[own]].sum())
            found.append(right)
        return tuple(found)

    def _score_zero_shot(self) -> dict[int, NDArray[np.int64]]:
        adapter = ZeroShot()
        jobs = self._plan.jobs
        own = self._plan.jobs_of(self._index)
        return {number: self._answer(adapter, self._data.images(jobs[number], as_features=True)) for number in own}

    def _answer(self, adapter: Adapter, images: InputSet) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = self._task.labels(adapter, images.to(self._device)).cpu().numpy()
        return labels

    def _train(self, number: int, held: Tensors) -> tuple[list[TrainedClient], NDArray[np.float64] | None]:
        if number == 0 and isinstance(self._trainer.model, ClosedForm):
            return self._sum(number)
        total = None if self._single else ExactSum(held)
        if self._batched and total is not None:
            own = self._plan.clients_of(self._index, number)
            return self._train_batched(own, number, held, total), total.total
        trained = [
            self._train_one(client, number, held, total) for client in self._plan.clients_of(self._index, number)
        ]
        return trained, None if total is None else total.total

    def _sum(self, number: int) -> tuple[list[TrainedClient], NDArray[np.float64]]:
        """Sum over the images of this worker's clients, each as it would send its own sums."""
        trained, total = list[TrainedClient](), self._none()
        size = sum(tensor.nbytes for tensor in total.to_wire().values())
        for client in self._plan.clients_of(self._index, number):
            own = self._sums_of(client)
            fault = own.fault(self._plan.samples[client] * (1 + self._settings.augmented_views))
            total = total if fault else total + own
            trained.append(TrainedClient(client, float("nan"), fault, size))
        return trained, total.flat()

    def _sums_of(self, client: int) -> Statistics:
        self._trainer.silo = self._data.names[client]
        return self._trainer.sums(self._data.train(client).to(self._device)).rounded()

    def _none(self) -> Statistics:
        model = self._trainer.model
        assert isinstance(model, ClosedForm), "asked of those methods only"
        return model.no_sums(self._task.text.features)

    def _try(self, solutions: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
        """Return how solutions do on the validation images among this worker's jobs."""
        method, found = type(self._trainer.model), dict[str, NDArray[np.int64]]()
        assert issubclass(method, ClosedForm), "sent of those methods only"
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in solutions.items()}
        for number in self._plan.jobs_of(self._index):
            job = self._plan.jobs[number]
            images = self._data.images(job).subset(np.flatnonzero(~self._data.scored.tests[job.start : job.stop]))
            for name, tensor in try_sets(method, tensors, images.to(self._device), self._task.text).items():
                found[name] = found.get(name, 0) + tensor.numpy()
        return found

    def _may_batch(self) -> bool:
        """Return whether nothing is done to a client's update but to sum it."""
        if self._table is not None or self._single:
            return False
        from fedclip_plugin.federated.simulation.batched import can_batch

        return can_batch(self._trainer.model)

    def _train_batched(
        self, clients: Sequence[int], number: int, held: Tensors, total: ExactSum
    ) -> list[TrainedClient]:
        """Train clients many at once, as far as memory allows, and add the updates that are not lost to the sum."""
        from fedclip_plugin.federated.simulation.batched import clients_at_once, train_together

        trained, lost = list[TrainedClient](), self._plan.lost(number)
        size = sum(tensor.nbytes for tensor in held.values())
        most = clients_at_once(self._trainer.model, self._device)
        for start in range(0, len(clients), most):
            group = clients[start : start + most]
            data = [self._data.train(client).to(self._device) for client in group]
            text = data[0].text_beside(self._task.text)
            found = train_together(self._trainer.model, held, group, data, text, self._settings, number)
            there = [index for index, client in enumerate(group) if client not in lost]
            faults: list[str | None] = [LOST] * len(group)
            if there:
                rows = {name: own[there] for name, own in found.parameters.items()}
                shares = [self._plan.share(group[index], number) for index in there]
                for index, fault in zip(there, total.add_rows(rows, shares), strict=True):
                    faults[index] = fault
            results = zip(group, found.losses, faults, strict=True)
            trained += [TrainedClient(client, loss, fault, size) for client, loss, fault in results]
        return trained

    def _train_one(self, client: int, number: int, held: Tensors, total: ExactSum | None) -> TrainedClient:
        """Train one client as a silo does, and add its update to the sum unless it is lost or unusable."""
        trainer = self._trainer
        own = self._load_own(client, held)
        trainer.set_id(client)
        trainer.silo, self._args.round_idx = self._data.names[client], number
        images = self._data.to_train_on(client).to(self._device)
        trainer.on_before_local_training(images, self._device, self._args)
        trainer.train(images, self._device, self._args)
        trainer.on_after_local_training(images, self._device, self._args)
        feedback = ErrorFeedback(self._settings.codec)
        feedback.load_state(self._named(own, "residual", held))
        payload, _ = feedback.compress(trainer.get_model_params(), held)
        self._keep(client, number + 1, feedback, held)
        size = sum(tensor.nbytes for tensor in payload.values())
        lost = client in self._plan.lost(number)
        fault = LOST if lost else None
        samples = self._plan.samples[client]
        if total is not None and fault is None:
            fault = total.add(feedback.expand(payload, held), self._plan.share(client, number))
        update = None
        if total is None and not lost:
            update = samples, {name: tensor.numpy().copy() for name, tensor in payload.items()}
        target = None
        if self._target is not None and not self._settings.averaged and self._settings.is_tested(number + 1):
            target = self._task.score(trainer.model, self._target).correct
        return TrainedClient(client, trainer.train_loss, fault, size, update, target)

    def _load_own(self, client: int, held: Tensors) -> NDArray[np.float32] | None:
        """Load the global adapter, or a client's own where nothing is averaged; return what the client keeps."""
        own = None if self._table is None else self._table.read(client)
        adapter = self._named(own, "adapter", held)
        load_parameters(self._trainer.model, adapter or held)
        return own

    def _keep(self, client: int, number: int, feedback: ErrorFeedback, held: Tensors) -> None:
        if self._table is None:
            return
        parts: dict[str, Mapping[str, Tensor]] = {}
        if "adapter" in self._plan.kept:
            parts["adapter"] = parameters_of(self._trainer.model)
        if "residual" in self._plan.kept:
            zeros = {name: torch.zeros_like(tensor) for name, tensor in held.items()}
            parts["residual"] = zeros | feedback.state()
        rows = [parts[part][name].reshape(-1) for part in self._plan.kept for name in held]
        self._table.write(client, number, torch.cat(rows).numpy())

    def _named(self, own: NDArray[np.float32] | None, part: str, held: Tensors) -> Tensors:
        """Return one part of what a client keeps, by name; empty when it keeps no such thing, or nothing yet."""
        if own is None or part not in self._plan.kept:
            return Tensors()
        sizes = [tensor.numel() for tensor in held.values()]
        start = self._plan.kept.index(part) * sum(sizes)
        flat = torch.from_numpy(own[start : start + sum(sizes)]).split(sizes)
        pairs = zip(held.items(), flat, strict=True)
        return Tensors((name, piece.reshape(tensor.shape)) for (name, tensor), piece in pairs)

    def _personalize(self, held: Tensors, turn: Turn) -> dict[int, NDArray[np.int64]]:
        """After the last round, fine-tune for this worker's clients if asked to, and keep their own adapters."""
        settings, trainer = self._settings, self._trainer
        if not settings.personal and settings.averaged:
            return {}
        found = {}
        jobs = self._plan.own_jobs
        for number in self._plan.own_jobs_of(self._index):
            job: Job = jobs[number]
            assert job.client is not None, "each job is of a client's own adapter"
            self._load_own(job.client, held)
            trainer.set_id(job.client)
            trainer.silo = self._data.names[job.client]
            if turn.total is not None and turn.chosen is not None:
                self._personalize_by_sums(job.client, self._none().of_flat(turn.total), Chosen(*turn.chosen))
            elif settings.personal_epochs:
                trainer.personalize(self._data.to_train_on(job.client).to(self._device))
            found[number] = self._answer(trainer.model, self._data.images(job))
            self._save(job, found[number])
        return found if settings.personal else {}

    def _personalize_by_sums(self, client: int, total: Statistics, chosen: Chosen) -> None:
        own = self._data[client].to(self._device)
        self._trainer.personalize_by_sums(own, total - self._sums_of(client), chosen)

    def _save(self, job: Job, predicted: NDArray[np.int64]) -> None:
        scored, trainer = self._data.scored, self._trainer
        own = slice(job.start, job.stop)
        right, tests = predicted == scored.labels[own], scored.tests[own]
        metrics = {"validation": _mean(right[~tests]), "test": _mean(right[tests])}
        saved = self._task.saved(self._settings.comm_round, trainer.model, metrics)
        trainer.folder.save_personal(trainer.silo, saved)


def _mean(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else 0.0
