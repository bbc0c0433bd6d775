"""Which grid point each case keeps on each target, and what the search cost."""

from __future__ import annotations

from statistics import fmean

from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable
from fedclip_plugin.text import duration, percent


def choices_table(findings: StudyResults) -> StudyTable:
    """Return the chosen point and the budget of every case."""
    targets = findings.plan.study.held_out()
    head = ["chosen", *(target or "no target" for target in targets), "validation", "points", "federations", "rounds"]
    rows = []
    for case, content in findings.plan.study.cases.items():
        own = [result for result in findings.results.values() if result.case == case]
        counts = [str(len(content.grid)), str(len(own)), f"{sum(result.rounds for result in own):,}"]
        chosen = (_choice(findings, case, target) for target in targets)
        rows.append([content.title, *chosen, percent(mean_validation(findings, case)), *counts])
    seed = findings.plan.study.seeds[0]
    note = (
        f"chosen by the highest mean source validation with seed {seed}, never by a test, and kept for the other "
        f"seeds; validation: that of the chosen points in %, mean over targets and seeds; {budget(findings)}"
    )
    return StudyTable("Grid points and budget", head, rows, (note, *findings.left_out(), *_inconsistencies(findings)))


def mean_validation(findings: StudyResults, case: str) -> float | None:
    """Return a case's mean source validation at its selected rounds, a fraction; None until all its cells are there."""
    study, cells = findings.plan.study, findings.of_case(case)
    if len(cells) < len(study.held_out()) * len(study.seeds):
        return None
    return fmean(cell.validation.selected for cell in cells)


def budget(findings: StudyResults) -> str:
    """Return how many federations, rounds and seconds the results took, as text."""
    results = findings.results.values()
    rounds, seconds = sum(result.rounds for result in results), sum(result.costs.seconds_total for result in results)
    total = findings.plan.total()
    cells = f"{len(results)}" if len(results) == total else f"{len(results)} of {total}"
    return f"budget: {cells} federations, {rounds:,} rounds, {duration(seconds)} of rounds"


def _choice(findings: StudyResults, case: str, target: str | None) -> str:
    point, gone = findings.point(case, target), _given_up(findings, case, target)
    without = f" (without point {', '.join(gone)}, which failed)" if gone else ""
    if point is None:
        return f"-{without}"
    settings = findings.plan.cell(case, target, findings.plan.study.seeds[0], point).settings
    told = ", ".join(f"{name.partition('.')[2]} {value}" for name, value in settings.items())
    return (told or "one point") + without


def _given_up(findings: StudyResults, case: str, target: str | None) -> list[str]:
    return [str(cell.point) for cell in findings.plan.grid(case, target) if cell.name in findings.given_up]


def _inconsistencies(findings: StudyResults) -> list[str]:
    """Return a sentence for each thing in which the results of a study differ from each other and should not."""
    told = []
    revisions = sorted({result.code for result in findings.results.values()})
    if len(revisions) > 1:
        told.append(f"the results were made by {len(revisions)} revisions of the code: {', '.join(revisions)}")
    counts = {name: sorted(found) for name, found in _images(findings).items() if len(found) > 1}
    if counts:
        listed = "; ".join(f"{name} {' or '.join(map(str, found))}" for name, found in counts.items())
        told.append(f"the results are not of the same images; tested on: {listed}")
    return told


def _images(findings: StudyResults) -> dict[str, set[int]]:
    """Return the numbers of images that each domain, as target and as silo, was tested on."""
    found: dict[str, set[int]] = {}
    for result in findings.results.values():
        seeded = result.class_split is not None  # how many base images a test split has, differs by seed
        for part, counts in result.counts.items():
            if seeded and part != "target":
                continue
            name = f"{result.target} (target)" if part == "target" else part
            found.setdefault(name, set()).add(counts.images)
    return found
