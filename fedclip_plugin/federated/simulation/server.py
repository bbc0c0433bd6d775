"""The server of a simulation: asks its workers once a round, averages, and writes the round's record."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedclip_plugin.features import InputSet
from fedclip_plugin.federated.managers.round_recorder import RoundRecorder, ServerReport
from fedclip_plugin.federated.managers.round_state import RoundState
from fedclip_plugin.federated.messages.added_fields import SiloReport
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.closed_form_round import ClosedFormRound
from fedclip_plugin.federated.roles.task import AnswerHistory, Answers, Histories, Score
from fedclip_plugin.federated.simulation.client_data import ClientData, Job
from fedclip_plugin.federated.simulation.client_results import ClientFiles, client_scores
from fedclip_plugin.federated.simulation.client_table import ClientTable
from fedclip_plugin.federated.simulation.exact_sum import ExactSum
from fedclip_plugin.federated.simulation.round_plan import RoundPlan
from fedclip_plugin.federated.simulation.turns import TrainedClient, Turn, WorkerAnswer

Ask = Callable[[Turn], Sequence[WorkerAnswer]]
"""From a turn to what all workers make of it, in their order."""


class SimulationServer:
    """Drives the aggregator: one turn of all workers a round.

    Parameters
    ----------
    data, plan
        The clients, and who does what.
    recorder
        Writes the records: to it the clients of one source are one silo.
    ask
        Asks all workers.
    table
        What clients keep; None when they keep nothing.
    histories
        Where every round's answers for the test images of each source, and for the target, are kept; None keeps none.
    """

    def __init__(
        self,
        args: Any,
        target: InputSet | None,
        aggregator: FedClipAggregator,
        recorder: RoundRecorder,
        data: ClientData,
        plan: RoundPlan,
        ask: Ask,
        table: ClientTable | None,
        histories: Histories | None = None,
    ) -> None:
        args.federated_optimizer = "FedAvg"  # FedML's FedAvg_seq would add single updates up, without weights
        self._args, self._target, self._aggregator, self._recorder = args, target, aggregator, recorder
        self._data, self._plan, self._ask, self._table = data, plan, ask, table
        self._settings, self._histories = aggregator.settings, histories
        self._personal: dict[str, Any] = {}  # what clients' own adapters of a closed-form method are solved from
        self._tried = 0, 0  # bytes of a closed-form method's solutions, and of what a client says of them
        self._files = ClientFiles(aggregator.folder.path / "clients", data, self._settings.comm_round)
        self._state = RoundState(
            aggregator.folder.state, residual=aggregator.compressor, optimizer=aggregator.optimizer
        )

    def run(self) -> None:
        """Train from the last complete round to the last one."""
        done, rounds = max(0, self._recorder.last), self._settings.comm_round
        if self._recorder.last < 0:
            self._begin()
        self._state.begin(done)
        if self._table is not None:
            self._table.begin(done)
        self._files.begin(done)
        for number in range(done, rounds + 1):
            self._turn(number, train=number < rounds)

    def _begin(self) -> None:
        """Note what is known before any training, as round 0."""
        aggregator = self._aggregator
        aggregator.score_target(self._target)
        aggregator.note_target(0, self._histories)
        aggregator.save(0)
        zero_shot = aggregator.zero_shot.score if aggregator.zero_shot else None
        self._recorder.server(0, ServerReport(target=aggregator.target, zero_shot=zero_shot))

    def _turn(self, number: int, train: bool) -> None:
        """Have the adapter after ``number`` rounds scored if it is tested, and the next one trained."""
        began = time.perf_counter()
        held = self._aggregator.get_model_params()
        adapter = {name: tensor.numpy() for name, tensor in held.items()}
        down = sum(tensor.nbytes for tensor in held.values())
        personal = {} if train else self._personal
        tested = self._settings.is_tested(number)
        answers = self._ask(Turn(number, adapter, train, tested, number == 0, **personal))
        trained = sorted((own for answer in answers for own in answer.trained), key=lambda own: own.client)
        for report in self._reports(number, answers, trained):
            self._recorder.report(report)
        if not train:
            return
        seconds = {"aggregate": time.perf_counter()}
        self._aggregate(number, answers, trained)
        seconds["aggregate"] = time.perf_counter() - seconds["aggregate"]
        self._score_target(number, trained, seconds)
        self._note_round(number + 1, trained, down, seconds, time.perf_counter() - began)

    def _aggregate(self, number: int, answers: Sequence[WorkerAnswer], trained: Sequence[TrainedClient]) -> None:
        """Average what was trained, and take the next global adapter as clients will see it."""
        aggregator, names = self._aggregator, self._data.names
        self._args.round_idx = number
        held = aggregator.get_model_params()
        faults = {names[own.client]: own.fault for own in trained if own.fault is not None}
        solver = aggregator.solving(number)
        if solver is not None:
            aggregator.require_enough(len(trained) - len(faults), faults)
            aggregator.set_model_params(self._solve(number, solver, answers))
            return
        self._tried = 0, 0
        if self._settings.interpolates(number):
            aggregator.dropped, aggregator.outliers = {}, {}
            right = [sum(own) for own in zip(*(answer.right for answer in answers), strict=True)]
            result = aggregator.interpolate(right)
        else:
            result = aggregator.on_after_aggregation(self._average(number, answers, trained, faults))
        _, seen = aggregator.compressor.compress(result, held)
        aggregator.set_model_params(seen)

    def _average(
        self,
        number: int,
        answers: Sequence[WorkerAnswer],
        trained: Sequence[TrainedClient],
        faults: Mapping[str, str],
    ) -> OrderedDict[str, Tensor]:
        """Return the average of the clients' updates, from the workers' sums or from single updates."""
        aggregator, names = self._aggregator, self._data.names
        single = [own for own in trained if own.update is not None]
        if single:
            aggregator.answered = tuple(names[own.client] for own in single)
            updates, _ = aggregator.on_before_aggregation([_tensors(own) for own in single])
            aggregator.dropped = {**faults, **aggregator.dropped}
            average: OrderedDict[str, Tensor] = aggregator.aggregate(updates)
            return average
        aggregator.require_enough(len(trained) - len(faults), faults)
        share = sum(self._plan.share(own.client, number) for own in trained if own.fault is None)
        sums = [answer.total for answer in answers if answer.total is not None]
        return ExactSum(aggregator.get_model_params()).moved(sums, share)

    def _solve(self, number: int, solver: ClosedFormRound, answers: Sequence[WorkerAnswer]) -> OrderedDict[str, Tensor]:
        """Solve a closed-form method from the workers' sums, and choose by their validation images."""
        solver.take_total(np.sum([answer.total for answer in answers if answer.total is not None], axis=0))
        solutions = {name: tensor.numpy() for name, tensor in solver.candidates().items()}
        tried = self._ask(Turn(number, {}, train=True, solutions=solutions))
        each = [answer.trials for answer in tried if answer.trials]
        trials = {name: torch.from_numpy(np.sum([one[name] for one in each], axis=0)) for name in each[0]}
        self._tried = sum(array.nbytes for array in solutions.values()), sum(one.nbytes for one in trials.values())
        found = solver.choose(trials)
        if self._settings.personal_statistics:
            self._personal = {"total": solver.total().flat(), "chosen": solver.chosen}
        return found

    def _score_target(self, number: int, trained: Sequence[TrainedClient], seconds: dict[str, float]) -> None:
        """Score the new adapter on the target domain when it is this round's turn, and save the last one."""
        began, aggregator = time.perf_counter(), self._aggregator
        aggregator.target = None
        last = number == self._settings.comm_round - 1
        if self._settings.is_tested(number + 1):
            averaged = self._settings.averaged
            if averaged or last:
                aggregator.test(self._target if averaged else None, torch.device("cpu"), self._args)
                aggregator.note_target(number + 1, self._histories)
            if self._target is not None and not averaged:  # the workers have scored each client's own adapter
                aggregator.target = fmean((own.target or 0) / len(self._target) for own in trained)
        seconds["target"] = time.perf_counter() - began

    def _note_round(
        self, number: int, trained: Sequence[TrainedClient], down: int, seconds: dict[str, float], wall: float
    ) -> None:
        aggregator = self._aggregator
        if number < self._settings.comm_round:
            aggregator.save(number)
        self._state.save(number)
        tried = 8 * len(self._settings.wise) if self._settings.interpolates(number - 1) else 0  # bytes, of each client
        solved = aggregator.solving(number - 1)
        report = ServerReport(
            answered=tuple(self._data.names) if tried else tuple(self._data.names[own.client] for own in trained),
            dropped=aggregator.dropped,
            outliers=aggregator.outliers,
            bytes_up=tried * len(self._data) if tried else sum(own.bytes_up + self._tried[1] for own in trained),
            bytes_down=(down + self._tried[0]) * (len(self._data) if tried else len(trained)),
            seconds=seconds,
            wall_seconds=wall,
            target=aggregator.target,
            wise=aggregator.share,
            solved=None if solved is None else solved.chosen,
        )
        self._recorder.server(number, report)
        self._state.drop_before(self._recorder.last)

    def _reports(
        self, number: int, answers: Sequence[WorkerAnswer], trained: Sequence[TrainedClient]
    ) -> list[SiloReport]:
        """Return what each source's clients have to say, as one silo would."""
        labels = self._data.scored.labels
        predicted = self._whole([answer.predicted for answer in answers], self._plan.jobs)
        zero_shot = self._whole([answer.zero_shot for answer in answers], self._plan.jobs)
        if predicted is not None:
            self._note_scores(number, predicted, zero_shot)
        personal = self._whole([answer.personal for answer in answers], self._plan.own_jobs)
        right = [None if found is None else found == labels for found in (predicted, zero_shot, personal)]
        phases = {name: max(answer.seconds.get(name, 0.0) for answer in answers) for name in ("train", "evaluate")}
        reports = []
        for index, source in enumerate(self._data.sources):
            losses = [own.loss for own in trained if self._data.source_of[own.client] == index]
            scores, zero_shot_scores, personal_scores = (self._scores(own, index) for own in right)
            reports.append(
                SiloReport(
                    silo=source,
                    round=number,
                    validation=scores.get("validation"),
                    test=scores.get("test"),
                    zero_shot=zero_shot_scores,
                    personal=personal_scores,
                    train_loss=fmean(losses) if losses else None,
                    train_seconds=phases["train"],
                    evaluate_seconds=phases["evaluate"],
                )
            )
        return reports

    def _note_scores(self, number: int, predicted: NDArray[np.int64], zero_shot: NDArray[np.int64] | None) -> None:
        """Keep how clients fare by what was answered after round ``number``."""
        labels, classes = self._data.scored.labels, len(self._aggregator.task.classes)
        scores = {"clients": client_scores(self._data, predicted, classes)}
        self._files.note(number, predicted == labels)
        if zero_shot is not None:
            scores["zero_shot_clients"] = client_scores(self._data, zero_shot, classes)
            self._files.note_zero_shot(zero_shot == labels)
        self._recorder.clients(number, **scores)
        self._note_answers(number, predicted, zero_shot)

    def _note_answers(self, number: int, predicted: NDArray[np.int64], zero_shot: NDArray[np.int64] | None) -> None:
        """Keep what was answered after round ``number`` for each source's test images, where somebody asked for it."""
        scored = self._data.scored
        for index, source in enumerate(self._data.sources if self._histories is not None else ()):
            own = self._rows[index]["test"]
            assert self._histories is not None, "else there is no loop"
            history = self._histories.setdefault(source, AnswerHistory())
            if zero_shot is not None:
                history.zero_shot = _labelled(scored.labels[own], zero_shot[own])
                history.positions = self._data.numbers[own]
            history.note(number, [_labelled(scored.labels[own], predicted[own])])

    def _whole(self, found: Sequence[Any], jobs: Sequence[Job]) -> NDArray[np.int64] | None:
        """Return the labels of all scored images, ``[M]``, from those of each job; None when nothing was scored."""
        whole = {number: labels for own in found for number, labels in own.items()}
        if not whole:
            return None
        predicted = np.empty(len(self._data.scored.labels), np.int64)
        for number, labels in whole.items():
            predicted[jobs[number].start : jobs[number].stop] = labels
        return predicted

    def _scores(self, right: NDArray[np.bool_] | None, source: int) -> dict[str, Score]:
        """Return the scores of a source by split, from which images are labelled right; empty when none was scored."""
        if right is None:
            return {}
        own = {part: right[rows] for part, rows in self._rows[source].items()}
        return {part: Score(int(found.sum()), len(found)) for part, found in own.items()}

    @cached_property
    def _rows(self) -> list[dict[str, NDArray[np.int64]]]:
        """Which of the scored images are of each source, by split."""
        tests, sources = self._data.scored.tests, self._data.source_of[self._data.scored.owners]
        return [
            {
                "validation": np.flatnonzero((sources == index) & ~tests),
                "test": np.flatnonzero((sources == index) & tests),
            }
            for index in range(len(self._data.sources))
        ]


def _labelled(true: NDArray[np.int64], predicted: NDArray[np.int64]) -> Answers:
    return Answers(torch.from_numpy(true), torch.from_numpy(predicted), torch.tensor(float("nan")).expand(len(true)))


def _tensors(own: TrainedClient) -> Any:
    assert own.update is not None, "chosen for it"
    samples, arrays = own.update
    return samples, OrderedDict((name, torch.from_numpy(np.array(array))) for name, array in arrays.items())
