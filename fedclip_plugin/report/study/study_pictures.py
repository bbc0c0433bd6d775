"""A study's results as pictures, each with its words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

from fedclip_plugin.report.page import Picture
from fedclip_plugin.report.plots.bars import Bar, BarPanel, accuracy_bars
from fedclip_plugin.report.plots.distributions import ClientBox, client_boxes
from fedclip_plugin.report.plots.forest import Difference, forest
from fedclip_plugin.report.plots.panels import AccuracyCurve, accuracy_panels
from fedclip_plugin.report.plots.points import Point, cost_points
from fedclip_plugin.study import CellResult, StudyResults
from fedclip_plugin.study.statistics.intervals import Interval
from fedclip_plugin.study.statistics.spreads import Kind, Spread
from fedclip_plugin.study.tables.accuracy_rows import AccuracyRow, Column
from fedclip_plugin.study.tables.clients_table import Scores, client_rows, with_zero_shot
from fedclip_plugin.study.tables.cost_table import federates
from fedclip_plugin.study.tables.shots_table import headline, known_by_shots


def mean_curve(findings: StudyResults, case: str) -> AccuracyCurve | None:
    """Return a case's curve on the targets, or on the sources in a study without targets.

    Returns
    -------
    AccuracyCurve or None
        None while no seed is known on every target. Grid points may differ in their number of rounds: the curve ends
        with the shortest.
    """
    targets = findings.plan.study.held_out()
    by_seed: dict[int, list[CellResult]] = {}
    for result in findings.of_case(case):
        by_seed.setdefault(result.seed, []).append(result)
    whole = [results for results in by_seed.values() if len(results) == len(targets)]
    if not whole:
        return None
    length = min(len(result.curve.round) for results in whole for result in results)
    seeds = np.array([np.mean([_curve(result)[:length] for result in results], axis=0) for results in whole])
    zero_shot = float(np.mean([_zero_shot(result) for results in whole for result in results]))
    return AccuracyCurve(
        findings.plan.study.cases[case].title,
        np.array(whole[0][0].curve.round[:length]),
        seeds.mean(0),
        zero_shot,
        spread=seeds.std(0, ddof=1) if len(seeds) > 1 else None,
    )


def _curve(result: CellResult) -> npt.NDArray[np.float64]:
    values = result.curve.test if result.target is None else result.curve.target
    return np.array(values, dtype=np.float64)  # NaN for None


def _zero_shot(result: CellResult) -> float:
    accuracy = result.target_accuracy
    return result.source_mean("zero_shot") if accuracy is None else accuracy.zero_shot


_MEAN = "mean"
_ON = {"generalization": "the target domain", "personalization": "the silos' own test splits"}


def bars(findings: StudyResults, rows: Sequence[AccuracyRow], kind: Kind) -> Picture:
    """Draw the accuracy of every case on every domain and their mean."""
    titles = _titles(findings)
    panels = []
    for domain in [*_domains(findings, rows), _MEAN]:
        found = {row.title: _at(row.selected, domain) for row in rows}
        zero_shot = next((level.mean for row in rows if (level := _at(row.zero_shot, domain))), None)
        panels.append(BarPanel(domain, [_bar(title, found.get(title)) for title in titles], zero_shot))
    return Picture(
        f"{kind}_bars",
        accuracy_bars(panels),
        f"Bars of the accuracy on {_ON[kind]} for {len(rows)} cases and {len(panels) - 1} domains.",
        f"Accuracy on {_ON[kind]} at the selected round: mean and standard deviation over seeds. A bar that ends left "
        "of the dashed line is worse than CLIP without any training; whether a gap is more than chance is told by the "
        "next figure.",
    )


def differences(findings: StudyResults, rows: Sequence[AccuracyRow], kind: Kind) -> Picture:
    """Draw the difference of every case to zero-shot CLIP with its interval."""
    titles = _titles(findings)
    panels = []
    for domain in [*_domains(findings, rows), _MEAN]:
        found = {row.title: row.difference if domain == _MEAN else row.by_domain.get(domain) for row in rows}
        panels.append((domain, [_difference(title, found.get(title)) for title in titles]))
    return Picture(
        f"{kind}_differences",
        forest(panels),
        f"Differences to zero-shot CLIP on {_ON[kind]} with 95 % intervals.",
        f"Points above zero-shot CLIP on {_ON[kind]}, mean over seeds, with intervals over other seeds and other test "
        "images. The intervals of a panel hold with 95 % for all its cases together (Bonferroni). A hollow mark is no "
        "gain and no loss (Holm's test of a panel's cases together, at 5 %).",
    )


def curves(findings: StudyResults) -> Picture | None:
    """Draw the accuracy by round of every case that has run on every target; None when none has."""
    found = [curve for case in findings.plan.study.cases if (curve := mean_curve(findings, case))]
    if not found:
        return None
    where = _ON[headline(findings)]
    return Picture(
        "accuracy_by_round",
        accuracy_panels(found, "mean over domains", "standard deviation over seeds"),
        f"Accuracy on {where} by round for {len(found)} cases.",
        f"Mean accuracy on {where} by round; the band is the standard deviation over seeds. A curve that falls after "
        "its top shows what the choice of a round hides.",
    )


def shots_picture(findings: StudyResults) -> Picture | None:
    """Draw accuracy by shots, of cases that differ in them alone; None until one has two that ran on every target."""
    kind, found = headline(findings), list[AccuracyCurve]()
    for title, rows in known_by_shots(findings, kind):
        known = [(shots, row.zero_shot.mean, row.selected.mean) for shots, row in rows.items() if shots]
        points = [(shots, level.mean, own) for shots, level, own in known if level and own]
        if len(points) > 1:
            shots, levels, means = (list(column) for column in zip(*points, strict=True))
            spread = [own.deviation or 0.0 for own in means]
            accuracy = np.array([own.mean for own in means])
            found.append(AccuracyCurve(title, np.array(shots), accuracy, fmean(levels), spread=np.array(spread)))
    if not found:
        return None
    return Picture(
        "accuracy_by_shots",
        accuracy_panels(found, "selected round", "standard deviation over seeds", along="shots"),
        f"Accuracy on {_ON[kind]} by the number of training images of each class, for {len(found)} methods.",
        f"Mean accuracy on {_ON[kind]} by shots: the images of each class that every silo trains on; the band is the "
        "standard deviation over seeds.",
    )


def client_picture(findings: StudyResults) -> Picture:
    """Draw how the clients of every case fare that is known on every target with a seed, at least one."""
    rows = client_rows(findings)
    return Picture(
        "clients",
        client_boxes([_box(title, scores) for title, scores, _ in with_zero_shot(rows)]),
        f"Boxes of the clients' test accuracies for {len(rows)} cases.",
        "Quartiles, median and mean over the clients at the selected round, each a mean over targets and seeds; the "
        "whiskers end at the worst and the best client. zero-shot CLIP is on the clients of the rows below it.",
    )


def _box(title: str, scores: Scores) -> ClientBox:
    names = ("worst", "lower_quartile", "median", "upper_quartile", "best", "mean")
    worst, lower, median, upper, best, mean = (scores[name].mean for name in names)
    return ClientBox(title, worst, lower, median, upper, best, mean)


def costs(findings: StudyResults, rows: Sequence[AccuracyRow]) -> Picture | None:
    """Draw accuracy against bytes and seconds, a point a case that has run on every target; None when none has."""
    known = [row for row in rows if row.selected.mean]
    if not known:
        return None
    zero_shot = next((row.zero_shot.mean.mean for row in known if row.zero_shot.mean), None)
    return Picture(
        "accuracy_by_cost",
        cost_points([_point(findings, row) for row in known], zero_shot),
        f"Accuracy of {len(known)} cases against bytes and seconds, both logarithmic.",
        "Mean accuracy at the selected round against what all silos had sent and received, and against the wall time "
        "of the rounds, until then; means over domains and seeds. Left and high is good. A case that sends nothing has "
        "no place on the left axis.",
    )


def _point(findings: StudyResults, row: AccuracyRow) -> Point:
    results = findings.of_case(row.case)
    assert row.selected.mean is not None, "the caller looked"
    return Point(
        row.title,
        row.selected.mean.mean,
        federates(findings, row.case)
        * fmean(result.curve.bytes[result.curve.round.index(result.selected_round)] for result in results),
        fmean(result.costs.seconds_to_selected for result in results),
    )


def _titles(findings: StudyResults) -> list[str]:
    return [case.title for case in findings.plan.study.cases.values()]


def _domains(findings: StudyResults, rows: Sequence[AccuracyRow]) -> list[str]:
    """Return the domains of which something is known, targets in the study's order first."""
    known = dict.fromkeys(domain for row in rows for domain in row.selected.domains)
    return [domain for domain in dict.fromkeys([*(findings.plan.study.targets or ()), *known]) if domain in known]


def _at(column: Column, domain: str) -> Spread | None:
    return column.mean if domain == _MEAN else column.domains.get(domain)


def _bar(title: str, found: Spread | None) -> Bar:
    return Bar(title, found.mean, found.deviation) if found else Bar(title, None)


def _difference(title: str, found: Interval | None) -> Difference:
    if found is None:
        return Difference(title, None)
    return Difference(title, found.mean, found.low, found.high, found.verdict != "no difference")
