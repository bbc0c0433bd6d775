"""Generalization and personalization, apart: accuracy by domain, over seeds, beside zero-shot CLIP."""

from __future__ import annotations

from collections.abc import Sequence

from fedclip_plugin.study.statistics.intervals import Interval
from fedclip_plugin.study.statistics.spreads import Kind, Spread
from fedclip_plugin.study.tables.accuracy_rows import AccuracyRow, Column, accuracy_rows
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable
from fedclip_plugin.text import percent

_TITLES: dict[Kind, str] = {
    "generalization": "Generalization: accuracy in % on the target domain, on which no silo trains",
    "personalization": "Personalization: accuracy in % on the silos' own test splits",
}
_COLUMNS = (
    "accuracy: of the round, and the grid point, of the highest mean source validation, +- standard "
    "deviation over seeds; difference: in points, with an interval over other seeds and other test images."
)
_SPLITS = "a silo's test split is another one with each seed, and the deviation over seeds holds that too."
_OF_CLIENTS = "of a simulation's domain, or data set: the test images of all its clients."
_OWN = "own adapter: each silo's own, made after the last round from that of the last round, not of the selected one."
_WORST = "worst silo: the lowest accuracy of a silo in each federation, mean over targets and seeds."
_BY_TEST = (
    "best by test: points by which the round of the highest test accuracy is above the selected one, mean over targets "
    "and seeds; to compare with papers that choose rounds by test. Nothing here is chosen by it."
)
_ZERO_SHOT = "zero-shot CLIP"

_TOGETHER = (
    "{0} differences are told: all {0} intervals hold together with 95 % (Bonferroni), and a difference is called none "
    "unless it stands the test for all {0} together at 5 % (Holm)."
)
_ALONE = "one difference is told: its interval holds with 95 %, and the difference is none where the interval holds 0."
ONE_SEED = "of one seed an interval covers other test images alone, and no other seeds."
_UNKNOWN = (
    "{}: no interval, which takes all answers for an image together: no rank has them all on its machine any more, or "
    "the study is still to ask for them (run it again)"
)


def accuracy_table(findings: StudyResults, kind: Kind) -> StudyTable | None:
    """Return the table of one kind of accuracy, zero-shot CLIP first; None when nothing is known."""
    rows = accuracy_rows(findings, kind)
    if not rows:
        return None
    domains = _domains(findings, rows)
    personal, worst = any(row.personal for row in rows), any(row.zero_shot.worst_silo for row in rows)
    by_test = kind == "generalization" or not findings.plan.study.targets
    full = next((row for row in rows if row.zero_shot.mean), rows[0])
    zero_shot = _without_deviation(full.zero_shot) if kind == "generalization" else full.zero_shot
    head = ["accuracy in %", *domains, "mean", *(["worst silo"] if worst else [])]
    more = ["difference to zero-shot", "last round", *(["best by test"] if by_test else [])]
    more += ["own adapter", "seeds"] if personal else ["seeds"]
    table = [_cells(_ZERO_SHOT, zero_shot, domains, worst) + [""] * len(more)]
    for row in rows:
        cells = _cells(row.title, row.selected, domains, worst)
        cells += [difference_text(row.difference), percent(row.last.average)]
        cells += [points_text(row.best_by_test and Spread(row.best_by_test.mean, None))] if by_test else []
        cells += [accuracy_text(row.personal.mean if row.personal else None)] if personal else []
        table.append([*cells, seeds_text(findings, row.seeds)])
    clients = [_OF_CLIENTS] if kind == "personalization" and findings.simulated else []
    told = covers([row.difference for row in rows if row.difference])
    columns = [note for note, there in ((_WORST, worst), (_BY_TEST, by_test), (_OWN, personal)) if there]
    notes = [_note(findings, kind), *told, *clients, *columns, *_own_zero_shot(full, rows)]
    notes += [_UNKNOWN.format(row.title) for row in rows if row.selected.mean and row.difference is None]
    return StudyTable(_TITLES[kind] + _missing(findings), [*head, *more], table, tuple(notes))


def _note(findings: StudyResults, kind: Kind) -> str:
    if kind == "generalization":
        return _COLUMNS
    return f"columns as in generalization; {_SPLITS}" if findings.plan.study.targets else f"{_COLUMNS[:-1]}; {_SPLITS}"


def _domains(findings: StudyResults, rows: Sequence[AccuracyRow]) -> list[str]:
    """Return the domains of all rows, targets in the study's order first."""
    targets = [target for target in findings.plan.study.held_out() if target]
    found = dict.fromkeys(name for row in rows for name in row.selected.domains)
    return [*(name for name in targets if name in found), *(name for name in found if name not in targets)]


def _cells(title: str, column: Column, domains: Sequence[str], worst: bool) -> list[str]:
    found = [*(column.domains.get(name) for name in domains), column.mean, *([column.worst_silo] if worst else [])]
    return [title, *map(accuracy_text, found)]


def _without_deviation(column: Column) -> Column:
    """Leave the deviation out: zero-shot CLIP has no seed, and the target's images are the same with every seed."""
    domains = {name: Spread(found.mean, None) for name, found in column.domains.items()}
    return Column(domains, column.mean and Spread(column.mean.mean, None), None)


def accuracy_text(found: Spread | None) -> str:
    """Return an accuracy in percent with its deviation over seeds, ``-`` for None."""
    if found is None:
        return "-"
    return percent(found.mean) + ("" if found.deviation is None else f" +- {100 * found.deviation:.1f}")


def points_text(found: Spread | None) -> str:
    """Return a difference in points with its deviation over seeds, ``-`` for None."""
    if found is None:
        return "-"
    return f"{100 * found.mean:+.1f}" + ("" if found.deviation is None else f" +- {100 * found.deviation:.1f}")


def seeds_text(findings: StudyResults, seeds: Sequence[int]) -> str:
    """Return how many seeds are known, and of how many where some are missing."""
    wanted = len(findings.plan.study.seeds)
    return str(wanted) if len(seeds) == wanted else f"{len(seeds)} of {wanted}"


def difference_text(found: Interval | None) -> str:
    """Return a difference in points with the ends of its interval, ``-`` for None."""
    if found is None:
        return "-"
    ends = f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"{found.verdict if found.verdict == 'no difference' else f'{100 * found.mean:+.1f}'} {ends}"


def covers(intervals: Sequence[Interval]) -> list[str]:
    """Say for how many comparisons the intervals of a column hold, by which rule, and what those of one seed cover."""
    if not intervals:
        return []
    many = intervals[0].comparisons
    told = _ALONE if many == 1 else _TOGETHER.format(many)
    return [told, *([ONE_SEED] if any(one.seeds == 1 for one in intervals) else [])]


def _missing(findings: StudyResults) -> str:
    found, total = len(findings.results), findings.plan.total()
    return "" if found == total else f" (incomplete: {found} of {total} cells)"


def _own_zero_shot(shown: AccuracyRow, rows: Sequence[AccuracyRow]) -> list[str]:
    """Say where cases are compared with another zero-shot than the first row's, such as one with its own prompts."""
    told: dict[str, list[str]] = {}
    for row in rows:
        common = [name for name in row.zero_shot.domains if name in shown.zero_shot.domains]
        if any(abs(row.zero_shot.domains[n].mean - shown.zero_shot.domains[n].mean) > 1e-9 for n in common):
            told.setdefault(percent(row.zero_shot.average), []).append(row.title)
    return [
        f"{'; '.join(titles)}: zero-shot CLIP as this case has it scores {score}; its difference is to that."
        if len(titles) == 1
        else f"{'; '.join(titles)}: zero-shot CLIP as these have it scores {score}; their differences are to that."
        for score, titles in told.items()
    ]
