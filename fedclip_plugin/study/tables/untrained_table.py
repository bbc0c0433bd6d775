"""Round 0: how far the untrained adapter is from zero-shot CLIP, by its random initial weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedclip_plugin.study.running.cell_result import CellResult
from fedclip_plugin.study.statistics.spreads import Spread, over_targets, spread
from fedclip_plugin.study.tables.accuracy_rows import whole
from fedclip_plugin.study.tables.accuracy_tables import points_text, seeds_text
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable

_NOTE = (
    "round 0 less zero-shot CLIP in points, +- standard deviation over seeds, which draw the initial weights; own: "
    "mean over the silos' own test splits. Cases that begin exactly at zero-shot CLIP are left out."
)
_ALIKE = "{0}: the same figures for {1}."


@dataclass(frozen=True)
class UntrainedRow:
    """How far one case is from zero-shot CLIP before it trains.

    Attributes
    ----------
    targets
        By target domain, over seeds.
    mean, own
        Mean over targets, and on the silos' own test splits, over seeds; None while a target is missing.
    seeds
        Seeds for which every target is known.
    """

    case: str
    title: str
    targets: dict[str, Spread]
    mean: Spread | None
    own: Spread | None
    seeds: tuple[int, ...]

    @property
    def figures(self) -> tuple[object, ...]:
        """What is told of the case."""
        return tuple(self.targets.items()), self.mean, self.own, self.seeds


def untrained_rows(findings: StudyResults) -> list[UntrainedRow]:
    """Return the cases that do not begin exactly at zero-shot CLIP, in the study's order."""
    return [_row(findings, case) for case in findings.plan.study.cases if _differs(findings.of_case(case))]


def untrained_table(findings: StudyResults) -> StudyTable | None:
    """Return the table of round 0, one row for cases with the same figures; None where all begin at zero-shot CLIP."""
    rows = untrained_rows(findings)
    if not rows:
        return None
    targets = [target for target in findings.plan.study.held_out() if target]
    alike: dict[tuple[object, ...], list[UntrainedRow]] = {}
    for row in rows:
        alike.setdefault(row.figures, []).append(row)
    table = []
    for first, *_ in alike.values():
        found = [*(first.targets.get(target) for target in targets), *([first.mean] if targets else []), first.own]
        table.append([first.title, *map(points_text, found), seeds_text(findings, first.seeds)])
    notes = [
        _ALIKE.format(first.title, "; ".join(row.title for row in more)) for first, *more in alike.values() if more
    ]
    head = ["round 0 less zero-shot", *targets, *(["mean"] if targets else []), "own", "seeds"]
    return StudyTable("Initial weights: the untrained adapter beside zero-shot CLIP", head, table, (_NOTE, *notes))


def _row(findings: StudyResults, case: str) -> UntrainedRow:
    every, complete = findings.of_case(case), whole(findings, case)
    seeds = tuple(sorted({result.seed for result in complete}))
    by_target = {
        target: spread([_on_target(result) for result in every if result.target == target])
        for target in dict.fromkeys(result.target for result in every)
        if target is not None
    }
    return UntrainedRow(
        case=case,
        title=findings.plan.study.cases[case].title,
        targets={target: found for target, found in by_target.items() if found},
        mean=over_targets(complete, seeds, _on_target) if by_target else None,
        own=over_targets(complete, seeds, _on_own),
        seeds=seeds,
    )


def _differs(results: Sequence[CellResult]) -> bool:
    values = [abs(_on_own(result)) for result in results]
    values += [abs(_on_target(result)) for result in results if result.target is not None]
    return any(value > 1e-9 for value in values)


def _on_own(result: CellResult) -> float:
    return result.curve.test[0] - result.source_mean("zero_shot")


def _on_target(result: CellResult) -> float:
    untrained = result.curve.target[0]
    assert untrained is not None and result.target_accuracy is not None, "round 0 is tested on the target"
    return untrained - result.target_accuracy.zero_shot
