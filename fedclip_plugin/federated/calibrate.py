"""After the last round: the server asks the silos, or workers, for sums, and calibrates what it has on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedclip_plugin.features import InputSet, SiloFeatures
from fedclip_plugin.federated.messages.calibration_messages import (
    Calibrated,
    ConfidenceCounts,
    CountConfidences,
    Likelihoods,
    ScoreAdapter,
)
from fedclip_plugin.federated.messages.exchange import Exchange
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.calibrator import PARTS, Ask, Calibrator, Question, calibrate_run
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.methods import parameters_of

_MOST_BYTES = 2**30
"""Largest adapter that is sent once more: MPI counts in 32-bit integers."""

_ANSWERS = {ScoreAdapter: Likelihoods, CountConfidences: ConfidenceCounts}


def calibrates(pair: FedClipTrainer | FedClipAggregator) -> bool:
    """Return whether a run ends with a calibration; every rank comes to the same."""
    small = sum(tensor.nbytes for tensor in parameters_of(pair.model).values()) <= _MOST_BYTES
    return pair.settings.calibrate and pair.settings.averaged and small


def silo_calibrator(trainer: FedClipTrainer, splits: SiloFeatures) -> Calibrator:
    """Return what answers for a silo."""
    task, parts = trainer.task, dict(zip(PARTS, (splits.validation, splits.test), strict=True))
    return Calibrator(trainer.model, lambda model: {name: task.logits(model, data) for name, data in parts.items()})


def calibrate_here(
    calibrators: Sequence[Calibrator],
    aggregator: FedClipAggregator,
    target: InputSet | None,
    say: Callable[[str], None],
) -> None:
    """Calibrate a run whose silos, or whose one worker, are in this process; `say` hears why it is not."""
    _calibrate(lambda question: [own.act(question) for own in calibrators], aggregator, target, say)


def calibration_exchange(comm: Any, names: Sequence[str], limit: float) -> Exchange:
    """Return the way between the ranks, of which `names` are known here, for :func:`calibrate_over`."""
    return Exchange(comm, names, limit, "at the calibration", key="fedclip_args.round_timeout")


def calibrate_over(
    exchange: Exchange, ranks: int, aggregator: FedClipAggregator, target: InputSet | None, say: Callable[[str], None]
) -> None:
    """Calibrate a run over MPI, on the server, while all other ranks are in :func:`answer_over`."""

    def ask(question: Question) -> list[Any]:
        exchange.to_silos([question] * ranks)
        return exchange.from_silos(_ANSWERS[type(question)])

    _calibrate(ask, aggregator, target, say)
    exchange.to_silos([Calibrated()] * ranks)


def answer_over(exchange: Exchange, calibrator: Calibrator) -> None:
    """Answer the server's questions until it has none, on a silo's or worker's rank."""
    while not isinstance(question := exchange.from_server(ScoreAdapter, CountConfidences, Calibrated), Calibrated):
        exchange.to_server(calibrator.act(question))


def _calibrate(ask: Ask, aggregator: FedClipAggregator, target: InputSet | None, say: Callable[[str], None]) -> None:
    own, task = None, aggregator.task
    if target is not None:
        own = Calibrator(aggregator.model, lambda model: dict.fromkeys(PARTS, task.logits(model, target)))
    if fault := calibrate_run(aggregator.folder, ask, own, aggregator.settings.false_reject_rate):
        say(f"note: {fault}")
