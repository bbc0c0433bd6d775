"""How the clients of a simulation fare: the table of them, and the spread of their accuracies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedclip_plugin.report.page import Picture, Section, Table
from fedclip_plugin.report.plots.distributions import ClientBox, client_boxes
from fedclip_plugin.report.run.round_arrays import RoundArrays
from fedclip_plugin.runs.closing_table import client_cells, last_tested
from fedclip_plugin.text import percent

TITLE = "Clients"

_TOLD = (
    "Each client has a test split of its own. mean, sd, worst, quartiles and median are over the clients, each alike; "
    "by images, balanced (mean recall of the classes) and macro F1 are over all their test images."
)


def clients_section(history: RoundArrays, folder: Path, method: str) -> Section | None:
    """Return the section; None for a run without clients.

    Parameters
    ----------
    folder
        ``clients`` of the run folder; where its files are not there, that is said in the picture's place.
    """
    cells = client_cells(history.records, method)
    if not cells:
        return None
    table = Table(cells[0], cells[1:], _counts(history))
    try:
        rows = _rows(history, folder)
    except (OSError, ValueError, IndexError) as error:
        note = f"The accuracies of single clients are not shown: {folder} cannot be used ({error})."
        return Section(TITLE, text=[_TOLD], notes=[note], tables=[table])
    return Section(TITLE, text=[_TOLD], tables=[table], pictures=[_picture(rows, _counts(history))])


def _counts(history: RoundArrays) -> str:
    scores = history.records[0].clients
    assert scores is not None, "there is a table of them"
    return f"{scores.clients:,} clients with {scores.images:,} test images."


def _rows(history: RoundArrays, folder: Path) -> list[ClientBox]:
    accuracy: NDArray[np.float32] = np.load(folder / "test_accuracy.npy")
    known = {"zero-shot CLIP": np.load(folder / "zero_shot.npy")}
    for label, record in (("best round", history.selected), ("last round", last_tested(history.records))):
        known[f"{label} {record.round}"] = accuracy[record.round]
    for label, own in known.items():
        if own.ndim != 1 or not len(own) or np.isnan(own).any():
            raise ValueError(f"no accuracy of every client with {label}")
    return [ClientBox.of(label, own.astype(np.float64)) for label, own in known.items()]


def _picture(rows: list[ClientBox], counts: str) -> Picture:
    first, last = rows[0], rows[-1]
    points = "A point is a client. " if len(first.points) else ""
    return Picture(
        "clients",
        client_boxes(rows),
        "Boxes of the clients' test accuracies with zero-shot CLIP, after the best round and the last.",
        f"{counts} {points}The worst client has {percent(first.worst)} % with zero-shot CLIP and {percent(last.worst)} "
        "% after the last round. Clients with few test images lie at the ends: of 5 images each counts 20 points.",
    )
