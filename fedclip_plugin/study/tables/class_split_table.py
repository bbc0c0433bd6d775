"""Base and new classes of a study: zero-shot CLIP and every case, on the target and on the silos' own tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedclip_plugin.runs.class_split_record import ClassAccuracy, ClassScores
from fedclip_plugin.runs.closing_table import CLASS_COLUMNS, class_columns, class_note
from fedclip_plugin.study.running.cell_result import CellResult
from fedclip_plugin.study.statistics.spreads import Spread, spread
from fedclip_plugin.study.tables.accuracy_rows import whole
from fedclip_plugin.study.tables.accuracy_tables import accuracy_text, seeds_text
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable

PLACES = ("target", "own tests")
"""Whose images: those of the target domain, and those of the silos' test splits."""

_NOTE = (
    "accuracy of the selected round: means over {targets}seeds, +- standard deviation over seeds; harmonic: for each "
    "seed of the means of base and new. The tables above are of the base classes."
)


@dataclass(frozen=True)
class ClassRow:
    """How base and new classes fare with one case.

    Attributes
    ----------
    scores
        ``zero_shot``, ``selected`` and ``last``, then one of `PLACES`, then one of `CLASS_COLUMNS`.
    seeds
        For which every target is known.
    """

    case: str
    title: str
    scores: dict[str, dict[str, dict[str, Spread]]]
    seeds: tuple[int, ...]


def class_rows(findings: StudyResults) -> list[ClassRow]:
    """Return how both kinds of classes fare with every case that is whole with a seed; none if unsplit."""
    rows = []
    for case, content in findings.plan.study.cases.items():
        if results := [result for result in whole(findings, case) if result.class_split]:
            seeds = tuple(sorted({result.seed for result in results}))
            levels = ("zero_shot", "selected", "last")
            rows.append(ClassRow(case, content.title, {own: _scores(results, own, seeds) for own in levels}, seeds))
    return rows


def class_split_table(findings: StudyResults) -> StudyTable | None:
    """Return the table, zero-shot CLIP first; None where classes are not split."""
    rows = class_rows(findings)
    if not rows:
        return None
    places = list(rows[0].scores["selected"])
    head = ["accuracy in %", *(f"{place}, {name}" for place in places for name in CLASS_COLUMNS), "seeds"]
    first = max(rows, key=lambda row: len(row.seeds))
    zero_shot = {**first.scores["zero_shot"]}
    if target := zero_shot.get("target"):  # zero-shot CLIP has no seed, and the target's images are always the same
        zero_shot["target"] = {name: Spread(own.mean, None) for name, own in target.items()}
    table = [["zero-shot CLIP", *_cells(zero_shot), ""]]
    table += [[row.title, *_cells(row.scores["selected"]), seeds_text(findings, row.seeds)] for row in rows]
    record = next(result.class_split for result in findings.results.values() if result.class_split)
    targets = "targets and " if findings.plan.study.targets else ""
    return StudyTable("Base to new classes", head, table, (_NOTE.format(targets=targets), class_note(record)))


def _cells(scores: dict[str, dict[str, Spread]]) -> Iterator[str]:
    for columns in scores.values():
        yield from (accuracy_text(columns[name]) for name in CLASS_COLUMNS)


def _scores(results: Sequence[CellResult], level: str, seeds: Sequence[int]) -> dict[str, dict[str, Spread]]:
    found = {}
    for place in PLACES:
        means = []
        for seed in seeds:
            own = [_accuracy(_of(result, level), place) for result in results if result.seed == seed]
            means.append(ClassAccuracy.mean(known for known in own if known is not None) if None not in own else None)
        if None in means:
            continue
        columns = zip(*(class_columns(mean) for mean in means if mean is not None), strict=True)
        spreads = (spread(column) for column in columns)
        found[place] = {name: own for name, own in zip(CLASS_COLUMNS, spreads, strict=True) if own}
    return found


def _of(result: CellResult, level: str) -> ClassScores:
    record = result.class_split
    assert record is not None, "chosen for it"
    return record.zero_shot if level == "zero_shot" else record.adapters[0 if level == "selected" else -1]


def _accuracy(scores: ClassScores, place: str) -> ClassAccuracy | None:
    if place != "target":
        return scores.source_mean
    return None if scores.target is None else scores.target.accuracy
