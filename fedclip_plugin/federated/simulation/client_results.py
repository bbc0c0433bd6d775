"""How the clients of a simulation fare: a summary for the round's record, and each client's accuracy in files."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.files import write_file
from fedclip_edge.metrics import ClassMetrics, confusion
from fedclip_plugin.federated.simulation.client_data import ClientData
from fedclip_plugin.runs import ClientScores
from fedclip_plugin.runs.writing import writing

logger = logging.getLogger(__name__)


def accuracies(data: ClientData, right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each client's accuracy on its test split, ``[K]``, from which of the scored images are labelled right."""
    scored = data.scored
    owners, count = scored.owners[scored.tests], len(data)
    images = np.bincount(owners, minlength=count)
    correct = np.bincount(owners, weights=right[scored.tests], minlength=count)
    shares: NDArray[np.float64] = np.divide(correct, np.maximum(images, 1), dtype=np.float64)
    return shares


def client_scores(data: ClientData, predicted: NDArray[np.int64], classes: int) -> ClientScores:
    """Return the summary of what was predicted for the scored images, ``[M]``, of C classes."""
    scored = data.scored
    own = accuracies(data, predicted == scored.labels)
    metrics = ClassMetrics.of(confusion(scored.labels[scored.tests], predicted[scored.tests], classes))
    lower, median, upper = (float(value) for value in np.quantile(own, (0.25, 0.5, 0.75)))
    return ClientScores(
        clients=len(own),
        images=int(scored.tests.sum()),
        mean=float(own.mean()),
        std=float(own.std()),
        worst=float(own.min()),
        lower_quartile=lower,
        median=median,
        upper_quartile=upper,
        best=float(own.max()),
        weighted=metrics.accuracy,
        balanced_accuracy=metrics.balanced_accuracy,
        macro_f1=metrics.macro_f1,
    )


class ClientFiles:
    """Each client's accuracy by round, beside the run.

    ``clients/clients.csv`` has a line a client: its name, its source, and the images of its splits.
    ``clients/test_accuracy.npy`` is ``[rounds + 1, K]`` float32, NaN where a round is not complete, and
    ``clients/zero_shot.npy`` is ``[K]``.
    """

    def __init__(self, folder: Path, data: ClientData, rounds: int) -> None:
        self._folder, self._data, self._rounds = folder, data, rounds

    def begin(self, done: int) -> None:
        """Make the files, longer where a run is continued for more rounds."""
        path, shape = self._folder / "test_accuracy.npy", (self._rounds + 1, len(self._data))
        found = np.full(shape, np.nan, np.float32)
        if done and (before := _earlier(path, shape[1])) is not None:
            found[: len(before[: done + 1])] = before[: done + 1]
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_file(self._folder / "clients.csv", self._table().encode())
            write_file(path, _bytes(found))
        self._rows = np.load(path, mmap_mode="r+")

    def note(self, number: int, right: NDArray[np.bool_]) -> None:
        """Keep the accuracies after round ``number``."""
        self._rows[number] = accuracies(self._data, right)
        self._rows.flush()

    def note_zero_shot(self, right: NDArray[np.bool_]) -> None:
        """Keep the accuracies of CLIP without an adapter."""
        with writing(self._folder):
            write_file(self._folder / "zero_shot.npy", _bytes(accuracies(self._data, right).astype(np.float32)))

    def _table(self) -> str:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["client", "source", "train", "validation", "test"])
        for index, name in enumerate(self._data.names):
            source = self._data.sources[self._data.source_of[index]]
            writer.writerow([name, source, *self._data.splits[index].sizes().values()])
        return stream.getvalue()


def _earlier(path: Path, clients: int) -> NDArray[np.float32] | None:
    """Return what a file has of earlier rounds, ``[rounds, K]``; None, with a warning, where it is not whole."""
    try:
        found: NDArray[np.float32] = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error)
    else:
        if found.ndim == 2 and found.shape[1] == clients:
            return found
        reason = f"it has the shape {found.shape}"
    logger.warning("%s cannot be continued (%s): it has the rounds from here on", path, reason)
    return None


def _bytes(array: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
