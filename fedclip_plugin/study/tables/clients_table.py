"""How the clients of a study's simulations fare: over the clients, then over targets and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fedclip_plugin.runs import ClientScores
from fedclip_plugin.runs.closing_table import CLIENT_COLUMNS
from fedclip_plugin.study.running.cell_result import CellResult
from fedclip_plugin.study.statistics.spreads import Spread, spread
from fedclip_plugin.study.tables.accuracy_rows import whole
from fedclip_plugin.study.tables.accuracy_tables import accuracy_text, seeds_text
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable

Scores = Mapping[str, Spread]
"""Name of a field of :class:`~fedclip_plugin.runs.ClientScores` to its mean over targets, over seeds."""

MEASURES = tuple(name for name in ClientScores.model_fields if name not in ("clients", "images"))

_NOTES = (
    "mean, sd, worst, quartiles: over the clients, each alike, each with its own test split; by images, balanced, "
    "macro F1: over all their test images. All are of the selected round: means over targets, +- standard deviation "
    "over seeds.",
    "zero-shot CLIP: on the clients of the rows below it; differences between methods, with intervals, are in the "
    "tables above.",
)


@dataclass(frozen=True)
class ClientRow:
    """How the clients of one case fare.

    Attributes
    ----------
    zero_shot, selected, last
        With zero-shot CLIP, in the selected round, in the last round.
    seeds
        For which every target is known.
    """

    case: str
    title: str
    zero_shot: Scores
    selected: Scores
    last: Scores
    seeds: tuple[int, ...]


def client_rows(findings: StudyResults) -> list[ClientRow]:
    """Return how the clients of every case fare that is known on every target with a seed; none without simulations."""
    rows = []
    for case, content in findings.plan.study.cases.items():
        results = [result for result in whole(findings, case) if result.clients]
        if results:
            zero_shot, selected, last = (_scores(results, level) for level in ("zero_shot", "selected", "last"))
            seeds = tuple(sorted({result.seed for result in results}))
            rows.append(ClientRow(case, content.title, zero_shot, selected, last, seeds))
    return rows


def with_zero_shot(rows: Sequence[ClientRow]) -> Iterator[tuple[str, Scores, ClientRow | None]]:
    """Yield title and scores of zero-shot CLIP above the cases with the same clients, and of each case with its row."""
    above: Scores = {}
    for row in rows:
        if row.zero_shot != above:
            above = row.zero_shot
            yield "zero-shot CLIP", above, None
        yield row.title, row.selected, row


def clients_table(findings: StudyResults) -> StudyTable | None:
    """Return the table of clients, zero-shot CLIP above the cases with the same clients; None without clients."""
    rows = client_rows(findings)
    if not rows:
        return None
    head = ["clients, accuracy in %", *CLIENT_COLUMNS.values(), "last round, mean", "seeds"]
    clients = {result.clients.selected.clients for result in findings.results.values() if result.clients}
    told = " or ".join(f"{count:,}" for count in sorted(clients))
    return StudyTable(f"Clients: accuracy of {told} clients", head, list(_cells(rows, findings)), _NOTES)


def _scores(results: Sequence[CellResult], level: str) -> Scores:
    seeds = sorted({result.seed for result in results})
    found = {}
    for name in MEASURES:
        values = [
            fmean(getattr(getattr(own.clients, level), name) for own in results if own.seed == seed) for seed in seeds
        ]
        known = spread(values)
        assert known is not None, "there is a seed"
        found[name] = known
    return found


def _cells(rows: Sequence[ClientRow], findings: StudyResults) -> Iterator[list[str]]:
    for title, scores, row in with_zero_shot(rows):
        more = [accuracy_text(row.last["mean"]), seeds_text(findings, row.seeds)] if row else ["", ""]
        yield [title, *(accuracy_text(scores[name]) for name in CLIENT_COLUMNS), *more]
