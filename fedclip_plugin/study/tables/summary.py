"""A study's results as one text: every table, then the cases that a reader looks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fedclip_edge.terminal import printable
from fedclip_plugin.study.tables.accuracy_tables import accuracy_table
from fedclip_plugin.study.tables.choices_table import choices_table
from fedclip_plugin.study.tables.class_split_table import class_split_table
from fedclip_plugin.study.tables.clients_table import clients_table
from fedclip_plugin.study.tables.cost_table import cost_table
from fedclip_plugin.study.tables.csv_text import to_csv
from fedclip_plugin.study.tables.headline_cases import closing
from fedclip_plugin.study.tables.shots_table import shots_table
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable
from fedclip_plugin.study.tables.untrained_table import untrained_table
from fedclip_plugin.text import plain_markdown

Form = Literal["text", "markdown", "csv"]

_WRITERS: dict[str, tuple[Callable[[StudyTable], str], Callable[[str], str]]] = {
    "text": (StudyTable.to_text, printable),
    "markdown": (StudyTable.to_markdown, plain_markdown),
}
"""By form, what writes a table, and a sentence."""


def tables(findings: StudyResults) -> list[StudyTable]:
    """Return a study's tables: accuracies, clients, round 0, classes, shots, costs, grid points; none without rows."""
    found = (
        accuracy_table(findings, "generalization"),
        accuracy_table(findings, "personalization"),
        clients_table(findings),
        untrained_table(findings),
        class_split_table(findings),
        shots_table(findings),
        cost_table(findings),
        choices_table(findings),
    )
    return [table for table in found if table is not None]


def summary(findings: StudyResults, form: Form = "text") -> str:
    """Return everything that is known of a study.

    Parameters
    ----------
    form
        ``text`` for the console, ``markdown``, or ``csv`` with a number a line.
    """
    if form == "csv":
        return to_csv(findings)
    if not findings.results:
        return f"study {findings.plan.study.study}: no cell of {findings.plan.total()} has a result yet"
    last = [line for line in (closing(findings, "generalization"), closing(findings, "personalization")) if line]
    write_table, write_line = _WRITERS[form]
    return "\n\n".join([*map(write_table, tables(findings)), *map(write_line, last)])
