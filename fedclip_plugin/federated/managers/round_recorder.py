"""From the silos' reports to a record a round: when all that are waited for have reported, the round is complete."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from fedclip_plugin.federated.messages.added_fields import SiloReport
from fedclip_plugin.federated.roles.choice import Chosen
from fedclip_plugin.federated.roles.task import Score
from fedclip_plugin.runs import ClientScores, RoundRecord, RunFolder, SiloRecord, SolvedRecord
from fedclip_plugin.runs.silo_scores import zero_shot_scores


@dataclass(frozen=True)
class ServerReport:
    """What the server knows of a round."""

    answered: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    outliers: Mapping[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)  # wall time by phase of the server
    wall_seconds: float = 0.0  # from sending the adapter before to sending this one
    target: float | None = None
    wise: float | None = None  # how much of what was trained is in an adapter that is interpolated
    solved: Chosen | None = None  # what was chosen in a round that is solved and not trained
    zero_shot: Score | None = None  # on the target domain; in round 0 of a run with a target
    delta: float | None = None  # of differential privacy
    late: tuple[str, ...] = ()  # silos that took no part in the round, as they did not answer in time


class RoundRecorder:
    """Collects what is known of each round and writes its record once.

    ``keep`` of the newest adapters stay on disk; ``on_round`` is called with every record that was written;
    ``averaged`` says that what the silos score is the adapter on disk, and not one of their own; those in ``without``
    take no part.
    """

    def __init__(
        self,
        folder: RunFolder,
        silos: Sequence[str],
        keep: int,
        on_round: Callable[[RoundRecord], None],
        averaged: bool = True,
        without: Sequence[str] = (),
    ) -> None:
        self._folder, self._silos, self._keep, self._on_round = folder, tuple(silos), keep, on_round
        self._averaged, self._without = averaged, frozenset(without)
        self._reports: dict[int, dict[str, SiloReport]] = {}
        self._server: dict[int, ServerReport] = {}
        self._losses: dict[int, dict[str, float]] = {}
        self._seconds: dict[int, dict[str, tuple[float, float]]] = {}
        self._clients: dict[int, dict[str, ClientScores]] = {}
        self._privacy: dict[int, dict[str, tuple[float | None, bool]]] = {}
        self._excused: dict[int, set[str]] = {}
        written = folder.rounds()
        if written:
            self._privacy[-1] = {name: (silo.epsilon, silo.spent) for name, silo in written[-1].silos.items()}
        self._zero_shot = zero_shot_scores(written, "validation") if written else {}
        self._late_zero_shot: dict[str, Mapping[str, Score]] = {}
        self._last = len(written) - 1
        self._best, self._best_scores = 0, dict[str, float]()
        for record in written:
            self._take_if_best(record.round, record.silos)

    @property
    def last(self) -> int:
        """The last complete round; -1 before there is one."""
        return self._last

    @property
    def spent(self) -> set[str]:
        """The silos that train no more, by the rounds that were there when this began."""
        return {name for name, (_, spent) in self._privacy.get(-1, {}).items() if spent}

    def report(self, report: SiloReport) -> None:
        """Take in one silo's report: its scores belong to ``report.round``, its training to the round after.

        Of several on one round, as where solutions are tried, the first tells zero-shot CLIP's scores.
        """
        if report.zero_shot and report.round <= self._last and report.silo not in self._zero_shot:
            self._late_zero_shot[report.silo] = report.zero_shot  # of a silo that was left out until now
        known = self._reports.setdefault(report.round, {})
        if report.silo in known and not report.zero_shot:
            report = replace(report, zero_shot=known[report.silo].zero_shot)
        known[report.silo] = report
        if report.epsilon is not None:
            self._privacy.setdefault(report.round + 1, {})[report.silo] = report.epsilon, report.spent
        if report.train_loss is not None and math.isfinite(report.train_loss):  # JSON has no NaN
            self._losses.setdefault(report.round + 1, {})[report.silo] = report.train_loss
        self._seconds.setdefault(report.round + 1, {})[report.silo] = (report.train_seconds, report.evaluate_seconds)
        self._complete(report.round)

    def clients(self, number: int, **scores: ClientScores) -> None:
        """Take in how clients are scored after round ``number``, before the round is complete; names as in a record."""
        self._clients[number] = scores

    def server(self, number: int, report: ServerReport) -> None:
        """Take in what the server knows of round ``number``."""
        seconds = self._phases(number, report.seconds, report.wall_seconds)
        self._server[number] = replace(report, seconds=seconds)
        self._complete(number)

    def late(self, report: SiloReport, number: int) -> None:
        """Take in of a report that comes too late, in round ``number``, what is true of any round.

        That is what was spent of privacy, and zero-shot CLIP's scores, which come with a silo's first report.
        """
        if report.zero_shot:
            self._late_zero_shot[report.silo] = report.zero_shot
        if report.epsilon is not None:
            self._privacy.setdefault(number, {})[report.silo] = report.epsilon, report.spent

    def excuse(self, number: int, names: Iterable[str]) -> None:
        """Wait no longer for what these silos say of round ``number``: its record is without their scores."""
        self._excused.setdefault(number, set()).update(names)
        self._complete(number)

    def silent(self, number: int) -> list[str]:
        """Return the silos that have not reported on round ``number``, and are to."""
        known = self._reports.get(number, {}).keys() | self._excused.get(number, set()) | self._without
        return [name for name in self._silos if name not in known]

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
        record = self._record(number, self._reports.pop(number, {}), self._server.pop(number))
        self._excused.pop(number, None)
        self._zero_shot |= zero_shot_scores([record], "validation")
        self._folder.complete_round(record, self._keep, self._carried(record) if self._averaged else None)
        self._last = number
        for passed in [earlier for earlier in self._seconds if earlier <= number]:
            del self._seconds[passed]
        self._on_round(record)

    def _record(self, number: int, reports: dict[str, SiloReport], server: ServerReport) -> RoundRecord:
        losses = self._losses.pop(number, {})
        known = {name: own for at in sorted(self._privacy) if at <= number for name, own in self._privacy[at].items()}
        self._privacy = {-1: known} | {at: own for at, own in self._privacy.items() if at > number}
        for name in self._late_zero_shot.keys() & reports.keys():
            reports[name] = replace(reports[name], zero_shot=dict(self._late_zero_shot.pop(name)))
        silos = {
            name: _silo(reports.get(name), losses.get(name), *known.get(name, (None, False))) for name in self._silos
        }
        validation = _mean(silo.validation for silo in silos.values())
        self._take_if_best(number, silos)
        return RoundRecord(
            round=number,
            silos=silos,
            train_loss=fmean(losses.values()) if losses else None,
            validation=validation,
            test=_mean(silo.test for silo in silos.values()),
            answered=server.answered,
            late=server.late,
            silent=tuple(name for name in self._silos if name not in reports),
            dropped=dict(server.dropped),
            outliers=dict(server.outliers),
            bytes_up=server.bytes_up,
            bytes_down=server.bytes_down,
            seconds=dict(server.seconds),
            zero_shot_target=server.zero_shot.accuracy if server.zero_shot else None,
            images_target=server.zero_shot.count if server.zero_shot else None,
            target=server.target,
            wise=server.wise,
            delta=server.delta,
            solved=None if server.solved is None else SolvedRecord(**server.solved._asdict()),
            best_round=self._best,
            without=tuple(name for name in self._silos if name in self._without),
            **self._clients.pop(number, {}),
        )

    def _carried(self, record: RoundRecord) -> dict[str, float]:
        """Return what the round's adapter carries if it is the best or the last one."""
        zero_shot = [self._zero_shot.get(name) for name in self._silos if name not in record.silent]
        known = None if None in zero_shot else _mean(zero_shot)
        scores = {"validation": record.validation, "zero_shot_validation": known}
        return {name: score for name, score in scores.items() if score is not None} | record.privacy_spent

    def _take_if_best(self, number: int, silos: Mapping[str, SiloRecord]) -> None:
        """Keep the first round of the highest mean source validation; the untrained adapter (round 0) never counts.

        Two rounds are compared over the silos that reported on both.
        """
        scores = {name: silo.validation for name, silo in silos.items() if silo.validation is not None}
        both = [name for name in self._best_scores if name in scores]
        if number == 0 or not scores:
            return
        if not self._best or (
            both and fmean(scores[name] for name in both) > fmean(self._best_scores[name] for name in both)
        ):
            self._best, self._best_scores = number, scores


def _mean(scores: Iterable[float | None]) -> float | None:
    """Return the mean of the scores that are known; None where none is."""
    known = [score for score in scores if score is not None]
    return fmean(known) if known else None


def _silo(report: SiloReport | None, loss: float | None, epsilon: float | None, spent: bool) -> SiloRecord:
    if report is None:
        return SiloRecord(train_loss=loss, validation=None, test=None, images={}, epsilon=epsilon, spent=spent)
    scores = {"validation": report.validation, "test": report.test}
    return SiloRecord(
        train_loss=loss,
        validation=report.validation.accuracy if report.validation else None,
        test=report.test.accuracy if report.test else None,
        images={part: score.count for part, score in scores.items() if score},
        zero_shot={part: score.accuracy for part, score in report.zero_shot.items()},
        personal={part: score.accuracy for part, score in report.personal.items()},
        epsilon=epsilon,
        spent=spent,
    )
