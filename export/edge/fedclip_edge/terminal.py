"""What a command writes: text that no name can command, aligned tables, and one sentence when the system refuses."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from fedclip_edge.errors import FedClipError

INTERRUPTED, READER_LEFT = 128 + 2, 128 + 13
"""Exit codes, as a shell reports a program that SIGINT or SIGPIPE has ended."""

_LAYOUT = "\n\t"
_MOVES_OF_BARS = re.compile(r"(?:\n|\x1b\[A)+")  # what tqdm writes to go from one bar to another
_WRITE = "free space there, and run the same command again"
_REMEDIES = {
    errno.ENOSPC: _WRITE,
    errno.EDQUOT: _WRITE,
    errno.EROFS: "it lies on a read-only file system: give another place, or work in a folder that can be written",
    errno.EACCES: "give this user the right to it, or give another place",
    errno.EPERM: "give this user the right to it, or give another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file: check the path",
    errno.EISDIR: "it is a folder, and a file is needed: check the path",
    errno.EEXIST: "remove it, or give another name",
    errno.ELOOP: "the link leads to itself: remove it",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


class StreamError(FedClipError):
    """Standard output or standard error that cannot be written, such as one that goes to a full disk."""


class ReaderLeftError(StreamError):
    """Whoever reads the output, such as ``head``, has seen enough; nobody has to be told."""

    exit_code = READER_LEFT


class LineFormatter(logging.Formatter):
    """Writes records of which no name can make more than one, nor command a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as lines of which only the first is not indented."""
        return message(super().format(record))


class SafeStream:
    """A text stream that no name can command: control characters, and what its encoding has not, become escapes.

    Errors call it by `name`. Where `bars` are drawn on it, they may go back to the beginning of the line, and a line
    up.
    """

    def __init__(self, stream: TextIO, name: str, bars: bool = False) -> None:
        self._stream, self._name, self._bars = stream, name, bars
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text with everything escaped that a terminal would obey; raises `StreamError`."""
        self._guard(self._stream.write, self._escaped(text))
        return len(text)

    def flush(self) -> None:
        """Hand on what is held back; errors as :meth:`write`."""
        self._guard(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _escaped(self, text: str) -> str:
        if not self._bars:
            return printable(text, _LAYOUT)
        if _MOVES_OF_BARS.fullmatch(text):
            return text
        return "\r" * text.startswith("\r") + printable(text.removeprefix("\r"), _LAYOUT)

    def _guard(self, act: Callable[..., Any], *arguments: str) -> None:
        try:
            act(*arguments)
        except BrokenPipeError as error:
            raise ReaderLeftError(f"the reader of {self._name} left") from error
        except OSError as error:
            raise StreamError(
                f"{self._name} cannot be written: {error.strerror}; free space there, or send it elsewhere"
            ) from error


def printable(text: str, kept: str = "") -> str:
    r"""Return a text from elsewhere on one line, with everything escaped that a terminal or a log would obey.

    Control characters, line breaks, direction marks and bytes that were not UTF-8 (surrogates) become escapes such as
    ``\x1b``; letters of every script stay as they are, and so do the characters in ``kept``.
    """
    commands = [c for c in set(text) if not c.isprintable() and c not in kept]
    return text.translate({ord(c): c.encode("unicode_escape").decode("ascii") for c in commands})


def message(text: str) -> str:
    """Return one printable message; its lines after the first are indented, so that none passes for another message.

    A line break in a name, or in what a library says, can then forge no line of a log.
    """
    first, *others = printable(text, _LAYOUT).split("\n")
    return "\n".join([first, *(f"  {line}" if line[:2].strip() else line for line in others)])


def align(table: Sequence[Sequence[str]], left: Sequence[int] = (0,), rule: bool = True) -> str:
    """Return a table, its head first, as aligned text: the columns `left` to the left, a `rule` under the head."""
    table = [[printable(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    rules = ["-" * (sum(widths) + 2 * len(widths) - 2)] if rule else []
    return "\n".join([lines[0], *rules, *lines[1:]])


def run_command(program: str, command: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Run a command with safe streams, and return its exit code.

    That is 2 when a standard stream cannot be written, 130 when the user interrupted it (`interrupted` is said then),
    141 when the reader of its output left early.
    """
    if sys.stderr is None:  # closed by who started us: nobody wants to hear what goes wrong
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # open as long as the process
    if sys.stdout is None:
        print(f"{program}: standard output is closed; send it to a file, or to {os.devnull}", file=sys.stderr)
        return StreamError.exit_code
    out, err = SafeStream(sys.stdout, "standard output"), SafeStream(sys.stderr, "standard error", bars=True)
    if logging.lastResort is not None:  # what writes warnings where no log is kept
        logging.lastResort.setFormatter(LineFormatter("%(levelname)s: %(message)s"))
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        try:
            try:
                return command()
            finally:
                out.flush()
        except StreamError as error:
            _abandon(out)
            if not isinstance(error, ReaderLeftError):
                _tell(err, f"{program}: {error}")
            return error.exit_code
        except KeyboardInterrupt:
            _tell(err, f"{program}: {interrupted}")
            return INTERRUPTED


def refusal(error: OSError) -> str:
    """Return what the operating system refused as one line: the path, its words, and what to do."""
    places = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    remedy = _REMEDIES.get(error.errno or 0, "mend that, and run the same command again")
    if not places:
        return f"{error.strerror or error}; {remedy} (with --debug it is said where)"
    return f"{' -> '.join(places)}: {error.strerror}; {remedy}"


def say_at_once(text: str, descriptor: int = 2) -> None:
    """Write a message to standard error (or `descriptor`) past all buffers, for a process that ends in the next moment.

    Where nothing can be written nobody listens, and the process ends all the same.
    """
    encoding = getattr(sys.stderr, "encoding", None) or "ascii"
    with suppress(OSError):
        os.write(descriptor, f"{message(text)}\n".encode(encoding, "backslashreplace"))


def _tell(err: SafeStream, text: str) -> None:
    with suppress(StreamError):  # then nobody listens
        err.write(f"{message(text)}\n")
        err.flush()


def _abandon(out: SafeStream) -> None:
    """Let what is still held back go nowhere: Python writes it at its end, and would complain then."""
    with suppress(OSError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
