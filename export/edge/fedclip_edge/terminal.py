"""The standard streams of a command: any name on any console, and one sentence when the system refuses something."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from fedclip_edge.errors import ExportError

INTERRUPTED, READER_LEFT = 128 + 2, 128 + 13
"""Exit codes, as a shell reports a program that SIGINT or SIGPIPE has ended."""


class StreamError(ExportError):
    """Standard output or standard error that cannot be written, such as one that goes to a full disk."""


class ReaderLeftError(StreamError):
    """Whoever reads the output, such as ``head``, has seen enough; nobody has to be told."""

    exit_code = READER_LEFT


class SafeStream:
    """A text stream that no name can command: control characters, and what its encoding has not, become escapes.

    Parameters
    ----------
    stream
        What is written to.
    name
        What an error calls it.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text with everything escaped that a terminal would obey.

        Raises
        ------
        StreamError
            When the stream cannot be written.
        """
        self._guard(self._stream.write, _escape(text, "\n\t"))
        return len(text)

    def flush(self) -> None:
        """Hand on what is held back; errors as :meth:`write`."""
        self._guard(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _guard(self, act: Callable[..., Any], *arguments: str) -> None:
        try:
            act(*arguments)
        except BrokenPipeError as error:
            raise ReaderLeftError(f"the reader of {self._name} left") from error
        except OSError as error:
            raise StreamError(
                f"{self._name} cannot be written: {error.strerror}; free space there, or send it elsewhere"
            ) from error


def printable(text: str) -> str:
    """Return a text from elsewhere on one line, with everything escaped that a terminal would obey."""
    return _escape(text, "")


def run_command(program: str, command: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Run a command with safe streams, and return its exit code.

    Parameters
    ----------
    program
        What a message begins with.
    command
        What to run; returns its exit code.
    interrupted
        What is said when the user interrupts it.

    Returns
    -------
    int
        The command's; 2 when a standard stream cannot be written, 130 when the user interrupted it, 141 when the
        reader of its output left early.
    """
    if sys.stderr is None:  # closed by who started us: nobody wants to hear what goes wrong
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # open as long as the process
    if sys.stdout is None:
        print(f"{program}: standard output is closed; send it to a file, or to {os.devnull}", file=sys.stderr)
        return StreamError.exit_code
    out, err = SafeStream(sys.stdout, "standard output"), SafeStream(sys.stderr, "standard error")
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
    """Return what the operating system refused as one line: the path and its words."""
    places = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    told = f"{error.strerror or error}; mend that, and run the same command again"
    return f"{' -> '.join(places)}: {told}" if places else told


def _escape(text: str, kept: str) -> str:
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode("ascii") for c in text)


def _tell(err: SafeStream, text: str) -> None:
    with suppress(StreamError):  # then nobody listens
        err.write(f"{printable(text)}\n")
        err.flush()


def _abandon(out: SafeStream) -> None:
    """Let what is still held back go nowhere: Python writes it at its end, and would complain then."""
    with suppress(OSError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
