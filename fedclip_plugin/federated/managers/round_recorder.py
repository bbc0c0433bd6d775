"""From the silos' reports to a line a round: when all have reported, the round is complete."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from fedclip_plugin.federated.messages.message_fields import SiloReport
from fedclip_plugin.runs import RunFolder, zero_shot_validation

Line = dict[str, Any]


class RoundRecorder:
    """Collects what is known of each round and writes its line once.

    Parameters
    ----------
    folder
        The run folder.
    silos
        Names of all silos, in order.
    keep
        How many of the newest adapters stay on disk.
    on_line
        Called with every line that was written.
    averaged
        Whether what the silos score is the adapter on disk, and not one of their own.
    """

    def __init__(
        self,
        folder: RunFolder,
        silos: Sequence[str],
        keep: int,
        on_line: Callable[[Line], None],
        averaged: bool = True,
    ) -> None:
        self._folder, self._silos, self._keep, self._on_line = folder, tuple(silos), keep, on_line
        self._averaged = averaged
        self._reports: dict[int, dict[str, SiloReport]] = {}
        self._server: dict[int, Line] = {}
        self._losses: dict[int, dict[str, float]] = {}
        self._seconds: dict[int, dict[str, tuple[float, float]]] = {}
        written = folder.lines()
        self._zero_shot = zero_shot_validation(written[0]) if written else None
        self._last = written[-1]["round"] if written else -1
        self._best: Line | None = None
        for line in written:
            self._take_if_best(line)

    @property
    def last(self) -> int:
        """The last complete round; -1 before there is one."""
        return self._last

    def report(self, report: SiloReport) -> None:
        """Take in one silo's report: its scores belong to ``report.round``, its training to the round after."""
        self._reports.setdefault(report.round, {})[report.silo] = report
        if report.train_loss is not None and math.isfinite(report.train_loss):  # JSON has no NaN
            self._losses.setdefault(report.round + 1, {})[report.silo] = report.train_loss
        self._seconds.setdefault(report.round + 1, {})[report.silo] = (report.train_seconds, report.evaluate_seconds)
        self._complete(report.round)

    def server(self, number: int, facts: Mapping[str, Any], target: float | None, wall_seconds: float) -> None:
        """Take in what the server knows of round ``number``.

        Parameters
        ----------
        number
            The round.
        facts
            ``answered``, ``dropped``, ``bytes_up``, ``bytes_down`` and ``seconds`` by phase of the server.
        target
            Accuracy on the target domain, None when there is none or it was not measured.
        wall_seconds
            From sending the adapter before to sending this one.
        """
        line = {**facts, "target": target}
        line["seconds"] = self._phases(number, facts["seconds"], wall_seconds)
        self._server[number] = line
        self._complete(number)

    def silent(self, number: int) -> list[str]:
        """Return the silos that have not reported on round ``number``."""
        return [name for name in self._silos if name not in self._reports.get(number, {})]

    def _phases(self, number: int, server: Mapping[str, float], wall: float) -> dict[str, float]:
        """Split the wall time of a round; ``exchange`` is what neither training nor scoring nor averaging explains."""
        slowest = self._seconds.pop(number, {})
        train = max((seconds for seconds, _ in slowest.values()), default=0.0)
        evaluate = max((seconds for _, seconds in slowest.values()), default=0.0)
        busy = max((sum(pair) for pair in slowest.values()), default=0.0) + sum(server.values())
        phases = {"train": train, "evaluate": evaluate, **server, "exchange": max(0.0, wall - busy), "round": wall}
        return {name: round(seconds, 5) for name, seconds in phases.items()}

    def _complete(self, number: int) -> None:
        if number <= self._last or number not in self._server or self.silent(number):
            return
        reports = self._reports.pop(number)
        line = {"round": number, **self._scores(number, reports), **self._server.pop(number)}
        self._take_if_best(line)
        line["best_round"] = self._best["round"] if self._best else number
        self._zero_shot = zero_shot_validation(line) if number == 0 else self._zero_shot
        self._folder.complete_round(line, self._keep, self._carried(line) if self._averaged else None)
        self._last = number
        for passed in [earlier for earlier in self._seconds if earlier <= number]:
            del self._seconds[passed]
        self._on_line(line)

    def _scores(self, number: int, reports: Mapping[str, SiloReport]) -> Line:
        losses = self._losses.pop(number, {})
        silos: dict[str, Line] = {}
        for name in self._silos:
            report = reports[name]
            silos[name] = {
                "train_loss": losses.get(name),
                "validation": report.validation.accuracy,
                "test": report.test.accuracy,
                "images": {"validation": report.validation.count, "test": report.test.count},
            }
            if report.zero_shot:
                silos[name]["zero_shot"] = {part: score.accuracy for part, score in report.zero_shot.items()}
            if report.personal:
                silos[name]["personal"] = {part: score.accuracy for part, score in report.personal.items()}
        return {
            "silos": silos,
            "train_loss": fmean(losses.values()) if losses else None,
            "validation": fmean(silo["validation"] for silo in silos.values()),
            "test": fmean(silo["test"] for silo in silos.values()),
        }

    def _carried(self, line: Line) -> dict[str, float]:
        """Return what the round's adapter carries if it is the best or the last one."""
        scores = {"validation": line["validation"], "zero_shot_validation": self._zero_shot}
        return {name: score for name, score in scores.items() if score is not None}

    def _take_if_best(self, line: Line) -> None:
        """Keep the first round of the highest mean source validation; the untrained adapter (round 0) never counts."""
        if line["round"] > 0 and (self._best is None or line["validation"] > self._best["validation"]):
            self._best = line
