"""A rank's log file, and the warnings that its console hears."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedclip_edge.terminal import LineFormatter, printable
from fedclip_plugin.federated.rank_output import confined, say

logger = logging.getLogger(__name__)


class _RankLog(logging.FileHandler):
    """A log file that says once when it cannot be written, and is silent then: training goes on without it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say so, and take no further record."""
        self.setLevel(logging.CRITICAL + 1)
        error = sys.exc_info()[1]
        told = (error.strerror or str(error)) if isinstance(error, OSError) else repr(error)
        file = printable(self.baseFilename)
        say(f"WARNING: {file} cannot be written any more: {told}", "WARNING: a silo's log is cut short")

    def close(self) -> None:
        """Close the file; what a full disk has no room for is lost."""
        try:
            super().close()
        except OSError as error:
            say(f"WARNING: the end of {printable(self.baseFilename)} is lost: {error.strerror or error}")


@contextmanager
def log_to(folder: Path, rank: int, only: str = "") -> Iterator[None]:
    """Send every log record of the block to ``folder/rank_N.log``, and the project's warnings to the console as well.

    A silo's warnings, which may name files, do not go to a console on another machine. With ``only``, a logger's name,
    the file holds its records alone, and all other logging of the process stays as it is.
    """
    formatter = LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    root = logging.getLogger(only)
    before = root.level
    root.setLevel(logging.INFO)
    console = logging.StreamHandler()
    console.setLevel(logging.WARNING)
    console.addFilter(logging.Filter("fedclip_plugin"))
    console.setFormatter(LineFormatter("%(levelname)s: %(message)s"))
    heard = bool(only) and logging.getLogger().hasHandlers()  # else the process's own handlers would say it twice
    handlers: list[logging.Handler] = [] if confined() or heard else [console]
    for handler in handlers:
        root.addHandler(handler)
    silent = logging.NullHandler()
    if only:
        logging.getLogger().addHandler(silent)  # else the first record of FedML would set up the process's logging
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(_RankLog(folder / f"rank_{rank}.log", encoding="utf-8"))
        handlers[-1].setFormatter(formatter)
        root.addHandler(handlers[-1])
    except OSError as error:
        logger.warning("rank %d keeps no log in %s: %s", rank, folder, error.strerror or error)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(before)
        logging.getLogger().removeHandler(silent)
