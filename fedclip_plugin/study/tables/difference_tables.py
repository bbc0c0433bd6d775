"""The difference between any two cases of a study, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from fedclip_plugin.study.running.cell_result import CellResult
from fedclip_plugin.study.running.own_answers import KeptAnswers, kinds_between
from fedclip_plugin.study.running.results_folder import ResultsFolder
from fedclip_plugin.study.statistics.intervals import DomainCounts, estimate, together
from fedclip_plugin.study.statistics.spreads import KINDS, Kind, accuracies, parts
from fedclip_plugin.study.tables.accuracy_tables import ONE_SEED, difference_text
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable
from fedclip_plugin.text import percent

Pair = tuple[CellResult, CellResult]
"""What two cases found on the same target with the same seed."""

Answers = tuple[KeptAnswers | None, KeptAnswers | None]
"""What two cases answered for the same images."""

_NOTE = (
    "accuracy of the selected rounds in %; difference: in points, with its 95 % interval over other seeds and other "
    "test images, each taken with what both cases answered for it; it is none where the interval holds 0. Each row is "
    "one comparison, and is not widened for the other rows or for other cases."
)
_UNKNOWN = (
    "-: no interval, since not all answers for single images lie on this machine (each rank keeps its own), or the two "
    "cases were not tested on the same images."
)


def difference_tables(findings: StudyResults, folder: ResultsFolder, first: str, second: str) -> list[StudyTable]:
    """Return how far the first case is above the second, for each kind of accuracy that both have.

    Only targets and seeds that both cases have are compared. The mean over domains takes the seeds for which every
    target is known.
    """
    pairs = _pairs(findings, first, second)
    found = (_table(findings, folder, pairs, kind, (first, second)) for kind in KINDS)
    return [table for table in found if table is not None]


def _pairs(findings: StudyResults, first: str, second: str) -> list[Pair]:
    found = []
    for target in findings.plan.study.held_out():
        others = {result.seed: result for result in findings.chosen(second, target)}
        own = findings.chosen(first, target)
        found += [(result, others[result.seed]) for result in own if result.seed in others]
    return found


def _table(
    findings: StudyResults, folder: ResultsFolder, pairs: Sequence[Pair], kind: Kind, cases: tuple[str, str]
) -> StudyTable | None:
    values = [accuracies([pair[side] for pair in pairs], kind, "selected") for side in (0, 1)]
    if not values[0]:
        return None
    titles = [findings.plan.study.cases[case].title for case in cases]
    targets = findings.plan.study.held_out()
    seeds = {pair[0].seed for pair in pairs}
    known = {seed for seed in seeds if sum(pair[0].seed == seed for pair in pairs) == len(targets)}
    counts, rows = _counts(folder, pairs, kind), []
    for domain in values[0]:
        sides = [list(side[domain].values()) for side in values]
        rows.append(_row(domain, sides, [counts[domain]]))
    if known:
        sides = [[by_seed[seed] for by_seed in side.values() for seed in known] for side in values]
        whole = [pair for pair in pairs if pair[0].seed in known]
        rows.append(_row("mean", sides, list(_counts(folder, whole, kind).values())))
    notes = [
        _NOTE,
        *([ONE_SEED] if len(seeds) == 1 else []),
        *([_UNKNOWN] if any(row[-1] == "-" for row in rows) else []),
    ]
    title = f"{kind.capitalize()}: {titles[0]} less {titles[1]} ({len(pairs)} federations of each)"
    return StudyTable(title, ["domain", *titles, "difference"], rows, tuple(notes))


def _row(name: str, sides: Sequence[Sequence[float]], counts: Sequence[DomainCounts | None]) -> list[str]:
    there = [known for known in counts if known is not None]
    found = estimate(there) if len(there) == len(counts) else None
    told = difference_text(together([found])[0] if found else None)
    return [name, *(percent(fmean(side)) for side in sides), told]


def _counts(folder: ResultsFolder, pairs: Sequence[Pair], kind: Kind) -> dict[str, DomainCounts | None]:
    """Return by domain how many images are of each kind; None where not all answers are on this machine."""
    found: dict[str, dict[int, list[Answers]]] = {}
    for first, second in pairs:
        for domain, part in parts(first, kind).items():
            first_answers, second_answers = (
                KeptAnswers.load(folder.run_folder(result), part, result.digest) for result in (first, second)
            )
            found.setdefault(domain, {}).setdefault(first.seed, []).append((first_answers, second_answers))
    return {domain: _between(by_seed) for domain, by_seed in found.items()}


def _between(by_seed: Mapping[int, Sequence[Answers]]) -> DomainCounts | None:
    known = kinds_between([pair for pairs in by_seed.values() for pair in pairs])
    if known is None:
        return None
    each = {seed: kinds_between(pairs) for seed, pairs in by_seed.items()}
    return DomainCounts(known, {seed: (kinds,) for seed, kinds in each.items() if kinds})
