"""One row of a study's accuracy tables as numbers: what tables, plots and CSV show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedclip_plugin.study.running.answer_counts import Kinds
from fedclip_plugin.study.running.cell_result import CellResult
from fedclip_plugin.study.running.study_messages import Question
from fedclip_plugin.study.statistics.intervals import DomainCounts, Estimate, Interval, estimate, together
from fedclip_plugin.study.statistics.spreads import (
    KINDS,
    Kind,
    Spread,
    accuracies,
    over_domains,
    over_targets,
    parts,
    questions,
    spread,
)
from fedclip_plugin.study.tables.study_results import StudyResults


@dataclass(frozen=True)
class Column:
    """Accuracies of one kind of adapter.

    Attributes
    ----------
    domains
        By domain, over seeds.
    mean
        Mean over domains, over seeds; None while a target is missing.
    worst_silo
        The lowest accuracy of a silo in each federation, mean over targets, over seeds; None for target domains, while
        a target is missing, and of simulations, of which the clients' table tells it.
    """

    domains: dict[str, Spread]
    mean: Spread | None
    worst_silo: Spread | None

    @property
    def average(self) -> float | None:
        """The mean over domains and seeds; None while a target is missing."""
        return self.mean.mean if self.mean else None


@dataclass(frozen=True)
class AccuracyRow:
    """Accuracies of one case.

    Attributes
    ----------
    zero_shot, selected, last
        Zero-shot CLIP on the same images, the selected round, the last round.
    personal
        After local fine-tuning; None where there was none.
    difference
        Selected less zero-shot, mean over domains; None while a target is missing, or where no rank has all the answers
        that an interval takes.
    by_domain
        The same for each domain.
    best_by_test
        How far the round of the highest test accuracy is above the selected one, mean over targets, over seeds; None
        while a target is missing. Nothing is chosen by it.
    seeds
        Seeds for which every target is known; only they enter means over domains.
    """

    case: str
    title: str
    kind: Kind
    zero_shot: Column
    selected: Column
    last: Column
    personal: Column | None
    difference: Interval | None
    by_domain: dict[str, Interval]
    best_by_test: Spread | None
    seeds: tuple[int, ...]


def accuracy_row(findings: StudyResults, case: str, kind: Kind) -> AccuracyRow | None:
    """Return a case's accuracies as they stand among those of all cases, None as long as nothing is known of it."""
    return next((row for row in accuracy_rows(findings, kind) if row.case == case), None)


def accuracy_rows(findings: StudyResults, kind: Kind) -> list[AccuracyRow]:
    """Return the accuracies of every case of which something is known, in the study's order.

    Its intervals are for all of them together, on each domain and in the mean.
    """
    known = {case: found for case in findings.plan.study.cases if (found := _estimates(findings, case, kind))}
    told: dict[str, dict[str, Interval]] = {case: {} for case in known}
    for domain in dict.fromkeys(name for found in known.values() for name in found):
        here = {case: one for case, found in known.items() if (one := found.get(domain))}
        for case, interval in zip(here, together(list(here.values())), strict=True):
            told[case][domain] = interval
    return [_row(findings, case, kind, intervals) for case, intervals in told.items()]


def _estimates(findings: StudyResults, case: str, kind: Kind) -> dict[str, Estimate | None]:
    """Return by domain how far a case is above zero-shot CLIP, as ``""`` in the mean; empty when nothing is known."""
    every, complete = (_counts(findings, chosen, kind) for chosen in (findings.of_case(case), whole(findings, case)))
    if not every:
        return {}
    found = {name: estimate([counts]) if counts else None for name, counts in every.items()}
    known = [counts for counts in complete.values() if counts]
    return {**found, "": estimate(known) if len(known) == len(complete) else None}


def _row(findings: StudyResults, case: str, kind: Kind, intervals: dict[str, Interval]) -> AccuracyRow:
    results = findings.of_case(case)
    seeds = _complete_seeds(findings, results)
    fine_tuned = all(accuracy.personal is not None for result in results for accuracy in result.sources.values())
    return AccuracyRow(
        case=case,
        title=findings.plan.study.cases[case].title,
        kind=kind,
        zero_shot=_column(results, kind, "zero_shot", seeds),
        selected=_column(results, kind, "selected", seeds),
        last=_column(results, kind, "last", seeds),
        personal=_column(results, kind, "personal", seeds) if fine_tuned and kind == "personalization" else None,
        difference=intervals.get(""),
        by_domain={name: found for name, found in intervals.items() if name},
        best_by_test=over_targets(results, seeds, lambda result: _best_by_test(result, kind)),
        seeds=seeds,
    )


def whole(findings: StudyResults, case: str) -> list[CellResult]:
    """Return the results of a case with the seeds for which every target is known."""
    results = findings.of_case(case)
    seeds = _complete_seeds(findings, results)
    return [result for result in results if result.seed in seeds]


def wanted(findings: StudyResults, case: str) -> set[Question]:
    """Return what the ranks have to be asked for a case's intervals: federations that are told of together."""
    sets = (findings.of_case(case), whole(findings, case))
    found = {question for kind in KINDS for chosen in sets for question in questions(chosen, kind).values()}
    return {question for question in found if len(question.cells) > 1}


def unasked(findings: StudyResults) -> list[str]:
    """Return the cases of which the ranks have still to be asked something."""
    return [case for case in findings.plan.study.cases if wanted(findings, case) - findings.joint.keys()]


def _counts(findings: StudyResults, results: Sequence[CellResult], kind: Kind) -> dict[str, DomainCounts | None]:
    """Return by domain what was answered for its images; None where no rank has all the answers."""
    by_seed: dict[str, dict[int, list[Kinds]]] = {}
    for result in results:
        for domain, part in parts(result, kind).items():
            by_seed.setdefault(domain, {}).setdefault(result.seed, []).append(result.counts[part].kinds())
    known = {domain: findings.kinds(question) for domain, question in questions(results, kind).items()}
    return {domain: DomainCounts(kinds, by_seed[domain]) if kinds else None for domain, kinds in known.items()}


def _complete_seeds(findings: StudyResults, results: Sequence[CellResult]) -> tuple[int, ...]:
    targets: dict[str | None, set[int]] = {target: set() for target in findings.plan.study.held_out()}
    for result in results:
        targets[result.target].add(result.seed)
    return tuple(sorted(set.intersection(*targets.values())))


def _column(results: Sequence[CellResult], kind: Kind, column: str, seeds: Sequence[int]) -> Column:
    values = accuracies(results, kind, column)
    spreads = {name: spread(list(by_seed.values())) for name, by_seed in values.items()}
    of_silos = kind == "personalization" and not any(result.clients for result in results)
    worst = over_targets(results, seeds, lambda result: _worst_silo(result, column)) if of_silos else None
    return Column({name: found for name, found in spreads.items() if found}, over_domains(values, seeds), worst)


def _worst_silo(result: CellResult, column: str) -> float:
    return min(float(getattr(accuracy, column)) for accuracy in result.sources.values())


def _best_by_test(result: CellResult, kind: Kind) -> float:
    """Return how far the best round by test is above the selected one; round 0 is not chosen either."""
    if kind == "personalization":
        return max(result.curve.test[1:]) - result.source_mean("selected")
    assert result.target_accuracy is not None, "generalization is of cells with a target"
    return max(found for found in result.curve.target[1:] if found is not None) - result.target_accuracy.selected
