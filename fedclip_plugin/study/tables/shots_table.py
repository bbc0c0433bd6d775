"""Few shots: cases of a study that differ in ``shots`` alone, as accuracy by shots."""

from __future__ import annotations

import json
from dataclasses import dataclass

from fedclip_plugin.study.statistics.spreads import Kind, Spread
from fedclip_plugin.study.tables.accuracy_rows import AccuracyRow, accuracy_rows
from fedclip_plugin.study.tables.accuracy_tables import accuracy_text
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable

_SHOTS = "fedclip_args.shots"
_PLACES: dict[Kind, str] = {
    "generalization": "on the target domain",
    "personalization": "on the silos' own test splits",
}
_NOTE = (
    "shots: images of each class that every silo trains on; all: its whole training split. Accuracy of the selected "
    "round, means over domains, +- standard deviation over seeds; differences with intervals are in the tables above."
)


@dataclass(frozen=True)
class ShotsRow:
    """Cases that differ in ``shots`` alone.

    Attributes
    ----------
    title
        That of the first of them, up to its last comma: ``FedCLIP`` of ``FedCLIP, 1 shot``.
    cases
        Shots to case, rising; None stands for all images, and comes last.
    """

    title: str
    cases: dict[int | None, str]


def known_by_shots(findings: StudyResults, kind: Kind) -> list[tuple[str, dict[int | None, AccuracyRow]]]:
    """Return the title of each of `shots_rows`, and by shots what is known of its cases."""
    groups = shots_rows(findings)
    known = {row.case: row for row in accuracy_rows(findings, kind)} if groups else {}
    return [
        (group.title, {shots: known[case] for shots, case in group.cases.items() if case in known}) for group in groups
    ]


def shots_rows(findings: StudyResults) -> list[ShotsRow]:
    """Return the groups of two or more cases that differ in ``shots`` alone, in the study's order."""
    groups: dict[str, dict[int | None, str]] = {}
    for name, case in findings.plan.study.cases.items():
        others = {key: value for key, value in case.settings.items() if key != _SHOTS}
        key = json.dumps([others, case.grid], sort_keys=True, default=str)
        groups.setdefault(key, {})[findings.plan.recipe(name).fedclip_args.shots] = name
    found = []
    for cases in groups.values():
        if len(cases) > 1:
            rising = sorted(cases, key=lambda shots: (shots is None, shots or 0))
            title = findings.plan.study.cases[cases[rising[0]]].title
            found.append(ShotsRow(title.rpartition(",")[0] or title, {shots: cases[shots] for shots in rising}))
    return found


def shots_table(findings: StudyResults) -> StudyTable | None:
    """Return accuracy by shots, zero-shot CLIP first; None where no cases differ in shots alone, or none is known."""
    kind = headline(findings)
    known = [(title, found) for title, found in known_by_shots(findings, kind) if found]
    if not known:
        return None
    shots = sorted({own for _, found in known for own in found}, key=lambda own: (own is None, own or 0))
    zero_shot = next((row.zero_shot.mean for _, found in known for row in found.values() if row.zero_shot.mean), None)
    level = accuracy_text(zero_shot and Spread(zero_shot.mean, None))
    table = [["zero-shot CLIP", level, *[""] * len(shots)]]
    for title, found in known:
        cells = (accuracy_text(found[own].selected.mean) if own in found else "-" for own in shots)
        table.append([title, "", *cells])
    head = ["accuracy in % by shots", "0", *("all" if own is None else str(own) for own in shots)]
    return StudyTable(f"Few shots: {_PLACES[kind]}", head, table, (_NOTE,))


def headline(findings: StudyResults) -> Kind:
    """Return the kind of accuracy that a study is about first."""
    return "generalization" if findings.plan.study.targets else "personalization"
