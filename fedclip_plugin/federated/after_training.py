"""After the last round: what the server asks the silos, or workers, about the best and the last adapter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from fedclip_plugin.features import InputSet, SiloFeatures
from fedclip_plugin.federated.messages.closing_messages import (
    ConfidenceCounts,
    CountConfidences,
    Likelihoods,
    NoMoreQuestions,
    ScoreAdapter,
    ScoreClasses,
)
from fedclip_plugin.federated.messages.exchange import Exchange
from fedclip_plugin.federated.messages.packing.tensor_layouts import NO_TENSORS, TensorLayout
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.calibrator import PARTS, Calibrator, calibrate_run
from fedclip_plugin.federated.roles.class_scorer import Arrays, checked_counts, score_classes
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.methods import Adapter, parameters_of
from fedclip_plugin.runs.class_split_record import ClassCounts
from fedclip_plugin.text import size

_MOST_BYTES = 2**30
"""Largest adapter that is sent once more: MPI counts in 32-bit integers."""

_ANSWERS: dict[type[Any], type[Any]] = {
    ScoreAdapter: Likelihoods,
    CountConfidences: ConfidenceCounts,
    ScoreClasses: ClassCounts,
}

Answer = Callable[[Any], Any]
"""From a question to what a rank says of its images."""

_Ask = Callable[[Any], Mapping[int, Any]]
"""From a question to what the ranks answer, by rank."""

_Say = Callable[[str], None]


def asks(pair: FedClipTrainer | FedClipAggregator) -> bool:
    """Return whether a run ends with questions; every rank comes to the same."""
    settings = pair.settings
    return settings.averaged and (settings.calibrate or settings.class_split != "all")


def silo_calibrator(trainer: FedClipTrainer, splits: SiloFeatures) -> Calibrator:
    """Return what answers for a silo where its adapter is calibrated."""
    task, parts = trainer.task, dict(zip(PARTS, (splits.validation, splits.test), strict=True))
    return Calibrator(trainer.model, lambda model: {name: task.logits(model, data) for name, data in parts.items()})


def silo_answers(trainer: FedClipTrainer, splits: SiloFeatures) -> Answer:
    """Return what answers for a silo."""
    calibrator = silo_calibrator(trainer, splits)

    def _answer(question: Any) -> Any:
        if not isinstance(question, ScoreClasses):
            return calibrator.act(question)
        assert trainer.class_scorer is not None, "asked of runs that have new classes only"
        (counts,) = trainer.class_scorer.of_sources(trainer.model, question.adapter).values()
        return counts

    return _answer


def ask_here(answers: Sequence[Answer], aggregator: FedClipAggregator, target: InputSet | None, say: _Say) -> None:
    """End a run whose silos, or whose one worker, are in this process; `say` hears what could not be done."""

    def _ask(question: Any) -> dict[int, Any]:
        return {rank: own(question) for rank, own in enumerate(answers, 1)}

    _ask_all(_ask, aggregator, target, say)


def closing_exchange(
    comm: Any,
    names: Sequence[str],
    limit: float,
    model: Adapter,
    missing: Collection[int] = (),
    leniency: tuple[int, float] | None = None,
) -> Exchange:
    """Return the way between the ranks, of which `names` are known here, for :func:`ask_over` about a `model`.

    Ranks that are `missing` are not asked; `leniency` is as for :class:`Exchange`.
    """
    adapter = TensorLayout.like(parameters_of(model), "adapter.")
    layouts = {ScoreAdapter: [adapter], ScoreClasses: [adapter, *NO_TENSORS]}
    return Exchange(
        comm, names, limit, "after the last round", "fedclip_args.round_timeout", layouts, missing, leniency
    )


def ask_over(
    exchange: Exchange,
    ranks: int,
    aggregator: FedClipAggregator,
    target: InputSet | None,
    say: _Say,
) -> None:
    """End a run over MPI, on the server, while all other ranks that are there are in :func:`answer_over`."""

    def _ask(question: Any) -> dict[int, Any]:
        exchange.to_silos([question] * ranks)
        answers = exchange.from_silos(_ANSWERS[type(question)])
        return dict(zip(exchange.silos, answers, strict=True))

    _ask_all(_ask, aggregator, target, say)
    exchange.to_silos([NoMoreQuestions()] * ranks)


def answer_over(exchange: Exchange, answer: Answer) -> None:
    """Answer the server's questions until it has none, on a silo's or worker's rank."""
    while not isinstance(question := exchange.from_server(*_ANSWERS, NoMoreQuestions), NoMoreQuestions):
        exchange.to_server(answer(question))


def _ask_all(ask: _Ask, aggregator: FedClipAggregator, target: InputSet | None, say: _Say) -> None:
    sent = sum(tensor.nbytes for tensor in parameters_of(aggregator.model).values())
    if sent > _MOST_BYTES:
        say(f"note: an adapter of {size(sent)} is not sent once more: it is not calibrated, nor tried on other classes")
        return
    scorer, model = aggregator.class_scorer, aggregator.model
    if scorer is not None:
        score_classes(aggregator.folder, scorer, model, partial(_class_counts, ask, aggregator))
    if aggregator.settings.calibrate:
        _calibrate(ask, aggregator, target, say)


def _class_counts(ask: _Ask, aggregator: FedClipAggregator, adapter: Arrays | None) -> dict[str, ClassCounts]:
    """Return the counts of the silos that answer; a simulation's server has all images itself, and asks nobody."""
    assert aggregator.class_scorer is not None, "asked of runs that have new classes only"
    if aggregator.class_scorer.sources:
        return aggregator.class_scorer.of_sources(aggregator.model, adapter)
    answers = ask(ScoreClasses(adapter))
    return {aggregator.silos[rank - 1]: checked_counts(answer) for rank, answer in answers.items()}


def _calibrate(ask: _Ask, aggregator: FedClipAggregator, target: InputSet | None, say: _Say) -> None:
    own, task = None, aggregator.task
    if target is not None:
        own = Calibrator(aggregator.model, lambda model: dict.fromkeys(PARTS, task.logits(model, target)))

    def _answers(question: Any) -> list[Any]:
        return list(ask(question).values())

    if fault := calibrate_run(aggregator.folder, _answers, own, aggregator.settings.false_reject_rate):
        say(f"note: {fault}")
