"""Calibration after the last round: what a rank tells of its images, and what the server makes of the sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedclip_edge.calibration import (
    CONFIDENCE_BINS,
    TEMPERATURES,
    confidence_counts,
    confidences,
    fitted_temperature,
    likelihoods,
    share_below,
    threshold_at,
    too_few,
)
from fedclip_edge.reliability import BINS, bin_sums
from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.messages.closing_messages import (
    BinSums,
    ConfidenceCounts,
    CountConfidences,
    Likelihoods,
    ScoreAdapter,
)
from fedclip_plugin.federated.roles.task import LabelledLogits
from fedclip_plugin.methods import Adapter, load_parameters
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.runs.calibration_record import (
    CalibratedAdapter,
    CalibratedImages,
    CalibrationRecord,
    ConfidenceBins,
)
from fedclip_plugin.text import told

Question = ScoreAdapter | CountConfidences
Ask = Callable[[Question], Sequence[Any]]
"""From a question to the answers of all silos, or workers, in their order."""

Score = Callable[[Adapter], Mapping[str, LabelledLogits]]
"""From an adapter to a rank's ``validation`` and ``test`` images as it sees them."""

PARTS = ("validation", "test")
"""What is scored: the images to calibrate with, and those that say what it is worth."""

_MILLION = 1_000_000


class Calibrator:
    """Answers the server's questions on one rank's images; logits are kept from one question to the next.

    Parameters
    ----------
    model
        Takes the parameters of each adapter that is asked about.
    """

    def __init__(self, model: Adapter, score: Score) -> None:
        self._model, self._score = model, score
        self._seen: Mapping[str, LabelledLogits] = {}

    def act(self, question: Question) -> Likelihoods | ConfidenceCounts:
        """Answer a question."""
        if isinstance(question, CountConfidences):
            return self._counts(question.temperature)
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in question.adapter.items()}
        load_parameters(self._model, tensors)
        self._seen = self._score(self._model)
        own = self._seen["validation"]
        return Likelihoods(len(own.labels), _whole(likelihoods(own.logits, own.labels)))

    def _counts(self, temperature: float) -> ConfidenceCounts:
        counts = {part: _whole(confidence_counts(own.logits, temperature)) for part, own in self._seen.items()}
        test = self._seen["test"]
        return ConfidenceCounts(counts["validation"], counts["test"], _bins(test, 1.0), _bins(test, temperature))


def calibrate_run(folder: RunFolder, ask: Ask, target: Calibrator | None, rate: float) -> str | None:
    """Calibrate the best and the last adapter of a finished run, on the server.

    Temperature and threshold are those of all silos' validation images together, each image alike.

    Parameters
    ----------
    target
        Answers for the images of the target domain, as their ``test``; None without a target.
    rate
        Share of the validation images that shall be below the threshold.

    Returns
    -------
    str or None
        Why nothing was calibrated; None when it was.

    Raises
    ------
    FederationError
        When an answer is none.
    RunFolderError
        When the run folder cannot be written.
    """
    last = folder.rounds()[-1]
    found = []
    for number in dict.fromkeys((last.best_round or last.round, last.round)):
        question = ScoreAdapter(dict(folder.load_round(number).tensors))
        likely = [_checked(answer, Likelihoods) for answer in ask(question)]
        images = sum(answer.images for answer in likely)
        if fault := too_few(images, rate):
            folder.calibrate(None)
            return f"the adapters are not calibrated: {fault}, among all silos' validation images"
        counting = CountConfidences(fitted_temperature(_summed(answer.losses for answer in likely)))
        counted = [_checked(answer, ConfidenceCounts) for answer in ask(counting)]
        threshold = threshold_at(_summed(answer.validation for answer in counted), rate)
        held_out = None
        if target is not None:
            target.act(question)
            held_out = _calibrated([target.act(counting)], threshold)
        found.append(
            CalibratedAdapter(
                round=number,
                temperature=counting.temperature,
                threshold=threshold,
                false_reject_rate=rate,
                images=images,
                sources=_calibrated(counted, threshold),
                target=held_out,
            )
        )
    folder.calibrate(CalibrationRecord(adapters=tuple(found)))
    return None


def _calibrated(answers: Sequence[Any], threshold: float) -> CalibratedImages:
    counts = _summed(answer.test for answer in answers)
    after = _joined([answer.after for answer in answers])
    return CalibratedImages(
        images=int(counts.sum()),
        before=_joined([answer.before for answer in answers]),
        after=after,
        unknown=share_below(counts, threshold),
        chance=after.reliability.chance,
    )


def _joined(parts: Sequence[BinSums]) -> ConfidenceBins:
    counts, right, confidence = (_summed(rows) for rows in zip(*map(astuple, parts), strict=True))
    return ConfidenceBins(
        counts=_whole(counts), right=_whole(right), confidence=tuple((confidence / _MILLION).tolist())
    )


def _bins(images: LabelledLogits, temperature: float) -> BinSums:
    confidence = np.rint(confidences(images.logits, temperature) * _MILLION) / _MILLION
    counts, right, sums = bin_sums(confidence, images.logits.argmax(1) == images.labels)
    return BinSums(_whole(counts), _whole(right), _whole(np.rint(sums * _MILLION).astype(np.int64)))


def _whole(numbers: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(numbers.tolist())


def _summed(rows: Any) -> NDArray[np.int64]:
    total: NDArray[np.int64] = np.sum(list(rows), axis=0, dtype=np.int64)
    return total


_LENGTHS = {"losses": len(TEMPERATURES), "validation": CONFIDENCE_BINS, "test": CONFIDENCE_BINS}
_MOST = 2**48


def _checked(answer: Any, kind: type[Any]) -> Any:
    """Return a silo's answer when it is one: sums of the right length, of whole numbers that can be."""
    for name, value, length in _numbers(answer, kind):
        right = isinstance(value, tuple) and len(value) == length
        if not right or not all(type(one) is int and 0 <= one < _MOST for one in value):
            raise FederationError(
                f"a silo's answer for the calibration has {name} = {told(value)}: must be {length} whole numbers from 0"
            )
    return answer


def _numbers(answer: Any, kind: type[Any]) -> Iterator[tuple[str, Any, int]]:
    if type(answer) is not kind:
        raise FederationError(f"a silo answered {told(answer)} when asked for {kind.__name__}: have all one version?")
    for field in fields(kind):
        value = getattr(answer, field.name)
        if field.name == "images":
            yield field.name, (value,), 1
        elif field.name in _LENGTHS:
            yield field.name, value, _LENGTHS[field.name]
        elif type(value) is not BinSums:
            yield field.name, value, BINS
        else:
            yield from ((f"{field.name}.{part.name}", getattr(value, part.name), BINS) for part in fields(BinSums))
