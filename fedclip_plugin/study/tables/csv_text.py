"""All numbers of a study as CSV, a number a line, at full precision; no name is a formula to a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict

from fedclip_edge.terminal import printable
from fedclip_plugin.study.statistics.spreads import KINDS
from fedclip_plugin.study.tables.accuracy_rows import AccuracyRow, Column, accuracy_rows
from fedclip_plugin.study.tables.choices_table import mean_validation
from fedclip_plugin.study.tables.class_split_table import ClassRow, class_rows
from fedclip_plugin.study.tables.clients_table import ClientRow, client_rows
from fedclip_plugin.study.tables.cost_table import case_costs, federates
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.untrained_table import UntrainedRow, untrained_rows

HEAD = ("case", "part", "measure", "domain", "value", "deviation", "low", "high")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Line = tuple[str, str, str, str, float | int, float | None, float | None, float | None]


def to_csv(findings: StudyResults) -> str:
    """Return accuracies (fractions), differences with their intervals, those of clients, and costs.

    ``domain`` is empty for means.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows([_cell(value) for value in line] for line in _lines(findings))
    return stream.getvalue()


def _lines(findings: StudyResults) -> Iterator[Line]:
    for kind in KINDS:
        for row in accuracy_rows(findings, kind):
            yield from _accuracies(row)
    for clients in client_rows(findings):
        yield from _clients(clients)
    for untrained in untrained_rows(findings):
        yield from _untrained(untrained)
    for classes in class_rows(findings):
        yield from _classes(classes)
    for case in findings.plan.study.cases:
        yield from _validation(findings, case)
        yield from _costs(findings, case)


def _cell(value: str | float | None) -> str | float | None:
    """Return a number as it is, and a name so that no spreadsheet takes it for a formula."""
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(_FORMULA) else printable(value)


def _accuracies(row: AccuracyRow) -> Iterator[Line]:
    columns = {"zero_shot": row.zero_shot, "selected": row.selected, "last": row.last, "personal": row.personal}
    for measure, column in columns.items():
        if column is not None:
            yield from _column(row, measure, column)
    if row.best_by_test:
        yield row.case, row.kind, "best_by_test", "", row.best_by_test.mean, row.best_by_test.deviation, None, None
    differences = {**row.by_domain, **({"": row.difference} if row.difference else {})}
    for domain, found in differences.items():
        yield row.case, row.kind, "difference", domain, found.mean, None, found.low, found.high
        yield row.case, row.kind, "difference_p_value", domain, found.p_value, None, None, None


def _column(row: AccuracyRow, measure: str, column: Column) -> Iterator[Line]:
    spreads = {**column.domains, **({"": column.mean} if column.mean else {})}
    for domain, found in spreads.items():
        yield row.case, row.kind, measure, domain, found.mean, found.deviation, None, None
    if worst := column.worst_silo:
        yield row.case, row.kind, f"{measure}_worst_silo", "", worst.mean, worst.deviation, None, None


def _clients(row: ClientRow) -> Iterator[Line]:
    for level, scores in {"zero_shot": row.zero_shot, "selected": row.selected, "last": row.last}.items():
        for name, found in scores.items():
            yield row.case, "clients", f"{level}_{name}", "", found.mean, found.deviation, None, None


def _untrained(row: UntrainedRow) -> Iterator[Line]:
    found = [(name, "generalization", spread) for name, spread in row.targets.items()]
    for domain, kind, spread in [*found, ("", "generalization", row.mean), ("", "personalization", row.own)]:
        if spread is not None:
            yield row.case, kind, "round_0_less_zero_shot", domain, spread.mean, spread.deviation, None, None


def _classes(row: ClassRow) -> Iterator[Line]:
    for level, places in row.scores.items():
        for place, columns in places.items():
            part = f"classes, {place}"
            yield from (
                (row.case, part, f"{level}_{name}", "", own.mean, own.deviation, None, None)
                for name, own in columns.items()
            )


def _validation(findings: StudyResults, case: str) -> Iterator[Line]:
    found = mean_validation(findings, case)
    if found is not None:
        yield case, "validation", "selected", "", found, None, None, None


def _costs(findings: StudyResults, case: str) -> Iterator[Line]:
    results = findings.of_case(case)
    if not results:
        return
    costs = asdict(case_costs(results, federates(findings, case)))
    seconds = {f"seconds_{phase}": value for phase, value in costs.pop("seconds").items()}
    for measure, value in {**costs, **seconds, "rounds": results[0].rounds}.items():
        yield case, "costs", measure, "", value, None, None, None
