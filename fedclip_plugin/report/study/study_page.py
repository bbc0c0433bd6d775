"""The page of a study."""

from __future__ import annotations

from dataclasses import replace

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.report.page import Page, Section, Table, pictured, provenance
from fedclip_plugin.report.study.study_answers import answers_section
from fedclip_plugin.report.study.study_pictures import bars, client_picture, costs, curves, differences, shots_picture
from fedclip_plugin.study import Plan, ResultsFolder, StudyResults
from fedclip_plugin.study.statistics.spreads import KINDS, Kind
from fedclip_plugin.study.tables.accuracy_rows import accuracy_rows
from fedclip_plugin.study.tables.accuracy_tables import accuracy_table
from fedclip_plugin.study.tables.choices_table import budget, choices_table
from fedclip_plugin.study.tables.class_split_table import class_split_table
from fedclip_plugin.study.tables.clients_table import clients_table
from fedclip_plugin.study.tables.cost_table import cost_table
from fedclip_plugin.study.tables.headline_cases import best_case, closing, paper_case
from fedclip_plugin.study.tables.shots_table import headline, shots_table
from fedclip_plugin.study.tables.titled_table import StudyTable
from fedclip_plugin.study.tables.untrained_table import untrained_table
from fedclip_plugin.text import percent, sentence

_WIDEST = 11
"""Columns beside the first that a page holds."""

_NOT_YET = "Not shown yet: no case has run on every target."


def study_page(folder: ResultsFolder) -> Page:
    """Return a study's report."""
    study = folder.study()
    findings = StudyResults.read(Plan(study), folder)
    if not findings.results:
        told = "".join(f"\n{fault}" for fault in findings.faults)
        raise RunFolderError(f"{folder.path} holds no result yet of {findings.plan.total()} cells: run the study{told}")
    return Page(
        title=f"Study {study.study}" + ("" if findings.complete() else " (incomplete)"),
        lead=f"{study.size()}; {budget(findings)}.",
        facts=_facts(findings),
        sections=[
            _summary(findings),
            *(_accuracy(findings, kind) for kind in KINDS if kind == "personalization" or study.targets),
            *_clients(findings),
            *_classes(findings),
            *_shots(findings),
            _rounds(findings),
            _costs(findings),
            answers_section(findings, folder),
            Section("Choices and budget", tables=_shown(choices_table(findings))),
            provenance(folder.study_file, "The resolved study, base recipe included, as study.yaml keeps it."),
        ],
    )


def _facts(findings: StudyResults) -> list[tuple[str, str]]:
    """Return the means on unseen domains (on the silos' own without such) of the cases that a reader looks for."""
    known = {row.case: row for row in accuracy_rows(findings, headline(findings))}
    named = {"": paper_case(findings), "best by validation: ": best_case(findings)}
    facts: dict[str, str] = {}
    for label, case in named.items():
        row = known.get(case) if case else None
        if row and row.selected.mean and row.zero_shot.mean and row.difference:
            facts["zero-shot CLIP"] = f"{percent(row.zero_shot.mean.mean)} %"
            facts[label + row.title] = f"{percent(row.selected.mean.mean)} %, {row.difference.verdict}"
    where = "unseen domains" if findings.plan.study.targets else "own images"
    told = [(f"{label}, {where}", value) for label, value in facts.items()]
    return [*told, ("cells with a result", f"{len(findings.results)} of {findings.plan.total()}")]


def _summary(findings: StudyResults) -> Section:
    text = [sentence(line) for kind in KINDS if (line := closing(findings, kind))]
    if findings.complete():
        return Section("Summary", text=text, notes=findings.faults)
    found, total = len(findings.results), findings.plan.total()
    note = f"This study is not complete: {found} of {total} cells have a result. What follows is of those alone."
    return Section("Summary", text=text, notes=[note, *findings.faults], tables=[_progress(findings)])


def _progress(findings: StudyResults) -> Table:
    study = findings.plan.study
    rows = []
    for name, case in study.cases.items():
        wanted = len(case.grid) + len(study.seeds) - 1
        found = [
            sum(result.case == name and result.target == target for result in findings.results.values())
            for target in study.held_out()
        ]
        rows.append([case.title, *(f"{count} of {wanted}" for count in found)])
    head = ["cells with a result", *(target or "no target" for target in study.held_out())]
    return Table(head, rows, "Grid points with the first seed, then the other seeds of the chosen point.")


def _accuracy(findings: StudyResults, kind: Kind) -> Section:
    rows = accuracy_rows(findings, kind)
    table = accuracy_table(findings, kind)
    if table is None:
        return Section(kind.capitalize(), notes=[_NOT_YET])
    return Section(
        kind.capitalize(),
        text=[sentence(table.title.partition(": ")[2])],
        tables=_shown(table, title=False),
        pictures=[bars(findings, rows, kind), differences(findings, rows, kind)],
    )


def _clients(findings: StudyResults) -> list[Section]:
    table = clients_table(findings)
    if table is None:
        return []
    return [Section("Clients", tables=_shown(table), pictures=[client_picture(findings)])]


def _rounds(findings: StudyResults) -> Section:
    section, table = pictured("Accuracy by round", curves(findings), _NOT_YET), untrained_table(findings)
    return replace(section, tables=_shown(table)) if table else section


def _classes(findings: StudyResults) -> list[Section]:
    table = class_split_table(findings)
    return [Section("Base and new classes", tables=_shown(table))] if table else []


def _shots(findings: StudyResults) -> list[Section]:
    table, picture = shots_table(findings), shots_picture(findings)
    return [Section("Few shots", tables=_shown(table), pictures=[picture] if picture else [])] if table else []


def _costs(findings: StudyResults) -> Section:
    table, picture = cost_table(findings), costs(findings, accuracy_rows(findings, headline(findings)))
    return Section(
        "Costs",
        tables=_shown(table) if table else [],
        pictures=[picture] if picture else [],
        notes=[] if picture else [_NOT_YET],
    )


def _shown(table: StudyTable, title: bool = True) -> list[Table]:
    """Return a study's table as the page shows it: one with many columns as two, the title and notes under the last."""
    parts = -(-(len(table.head) - 1) // _WIDEST)
    size = -(-(len(table.head) - 1) // parts)
    told = " ".join(sentence(note) for note in ([table.title] if title else []) + [*table.notes])
    tables = []
    for start in range(1, len(table.head), size):
        head, *rows = [[row[0], *row[start : start + size]] for row in (table.head, *table.rows)]
        last = start + size >= len(table.head)
        tables.append(Table(head, [[_typeset(cell) for cell in row] for row in rows], _typeset(told) if last else ""))
    return tables


def _typeset(text: str) -> str:
    return text.replace("+-", "±")
