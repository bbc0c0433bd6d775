"""What users give, in Python and on command lines: places and counts, and a clear error for what is none."""

from __future__ import annotations

import argparse
import operator
import os
from contextlib import suppress
from pathlib import Path

from fedclip_edge.errors import FedClipError

_SHOWN = 80
_EMPTY = "is empty; give a path ('.' is the folder in which the program works)"


def as_path(given: object, what: str, kind: type[FedClipError]) -> Path:
    """Return a path that was given in Python, with ``~`` replaced; nothing need be there.

    Parameters
    ----------
    given
        Text, or a path.
    what
        What it is, for the message, such as the argument's name.
    kind
        The error that is raised where it is no path, is empty, or can be the name of no file.
    """
    if not isinstance(given, str | os.PathLike):
        raise kind(f"{what} is a {type(given).__name__}; it is a path")
    if not os.fspath(given):
        raise kind(f"{what} {_EMPTY}")
    shown = repr(str(given))[:_SHOWN]
    try:
        path = Path(given).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # who opens it says so
            path.lstat()
    except RuntimeError as error:
        raise kind(f"{what} is {shown}: there is no such user; write the path out") from error
    except (OSError, TypeError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise kind(f"{what} is {shown}, which can be no path ({reason}); give another") from error
    return path


def as_count(given: object, what: str, kind: type[FedClipError], least: int = 1) -> int:
    """Return a whole number of at least ``least`` that was given in Python; `kind` is raised for anything else."""
    with suppress(TypeError):  # what is no number
        count = operator.index(given)  # type: ignore[arg-type]  # numpy's are welcome
        if count >= least and not isinstance(given, bool):
            return count
    raise kind(f"{what} = {given!r}: give a whole number of at least {least}")


def as_flag(given: object, what: str, kind: type[FedClipError]) -> bool:
    """Return a flag that was given in Python; `kind` is raised for anything else, such as the text ``"no"``."""
    if not isinstance(given, bool):
        raise kind(f"{what} = {given!r}: give True or False")
    return given


def path_argument(text: str) -> Path:
    """Return a path of a command line, for argparse; an empty one, as of a variable that is not set, is refused."""
    if not text:
        raise argparse.ArgumentTypeError(_EMPTY)
    return Path(text)
