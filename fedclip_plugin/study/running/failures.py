"""Which cells were begun and not finished: two small notes beside the results.

::

    cells/<cell>.started    while the cell runs
    cells/<cell>.failed     a line for each job that ended by itself while the cell ran
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fedclip_edge.files import append_line
from fedclip_plugin.runs.writing import writing

LIMIT = 2
"""A cell that failed this often is left out."""


class Failures:
    """Notes of cells that were begun; a cell that was merely stopped by its user has not failed."""

    def __init__(self, cells: Path) -> None:
        self._cells = cells

    def begin(self, name: str) -> None:
        """Note that a cell runs.

        Raises
        ------
        RunFolderError
            When the note cannot be written.
        """
        note = self._note(name, "started")
        with writing(note):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()

    def end(self, name: str) -> None:
        """Forget a cell's failures: its result is there; errors as :meth:`begin`."""
        for ending in ("started", "failed"):
            with writing(self._note(name, ending)):
                self._note(name, ending).unlink(missing_ok=True)

    def count(self) -> list[str]:
        """Count every cell that was begun and not finished as failed, and return their names."""
        names = self._named("started")
        for name in names:
            with writing(self._note(name, "failed")):
                append_line(self._note(name, "failed"), f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: no result")
                self._note(name, "started").unlink()
        return names

    def clear(self) -> None:
        """Forget that a cell was begun: the job was stopped from outside; errors as :meth:`begin`."""
        for name in self._named("started"):
            with writing(self._note(name, "started")):
                self._note(name, "started").unlink()

    def by_cell(self) -> dict[str, int]:
        """Return how often each cell without a result failed; cells that never did are left out."""
        counts = {name: len(self._note(name, "failed").read_text().splitlines()) for name in self._named("failed")}
        return {name: count for name, count in counts.items() if not self._note(name, "json").is_file()}

    def given_up(self) -> dict[str, Path]:
        """Return the cells that failed too often, with the note that is to be removed to try them again."""
        return {name: self._note(name, "failed") for name, count in self.by_cell().items() if count >= LIMIT}

    def _named(self, ending: str) -> list[str]:
        files = sorted(self._cells.rglob(f"*.{ending}"))
        return [file.relative_to(self._cells).as_posix().removesuffix(f".{ending}") for file in files]

    def _note(self, name: str, ending: str) -> Path:
        return self._cells / f"{name}.{ending}"
