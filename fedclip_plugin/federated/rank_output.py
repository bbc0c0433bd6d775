"""What a rank writes, and who reads it: a silo's own words stay on its machine.

mpirun hands on what every rank writes to the console of the machine where it was started. Where all ranks are on one
machine, nothing leaves it by that. In a job on several machines a silo's stdout and stderr go to its log instead, and
the console hears short lines without paths and file names.
"""

from __future__ import annotations

import os
from pathlib import Path

from fedclip_edge.terminal import say_at_once
from fedclip_plugin.ranks import one_host, world

_console: int | None = None
"""The console of a silo whose stdout and stderr go to its log."""


def confined() -> bool:
    """Return whether this rank's words are its own: a silo's of a job on several machines."""
    here = world()
    return here is not None and here[0] > 0 and not one_host()


def keep_own_words(log: Path) -> None:
    """From now on write stdout and stderr of a silo of a job on several machines to ``log``; others are left alone."""
    global _console  # the file descriptors are the process's too
    if not confined() or _console is not None:
        return
    _console = os.dup(2)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        file = os.open(os.devnull, os.O_WRONLY)
        _write(_console, f"fedclip: a silo's log cannot be written: {error.strerror}; its own words are lost")
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def say(whole: str, short: str = "") -> None:
    """Write a message on stderr; where it is the rank's own, the console hears ``short``: no path, no file name."""
    if not confined():
        _write(2, whole)
        return
    if _console is not None:  # else the run folder, and so the log, is not known yet
        _write(2, whole)
    _write(2 if _console is None else _console, short)


def _write(stream: int, text: str) -> None:
    if text:
        say_at_once(text, stream)
