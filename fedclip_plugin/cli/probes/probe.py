"""Try something in a process of its own, which may fail in any way without harm to this one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

_SECONDS = 120


@dataclass(frozen=True)
class Probe:
    """How a try ended."""

    fault: str
    out: str = ""
    err: str = ""


def probe(program: str, *words: str) -> Probe:
    """Run a Python program, or a command when there are ``words``, and wait for its end.

    Parameters
    ----------
    program
        Source text; the path of a command when words follow.
    words
        Of the command.
    """
    command = [program, *words] if words else [sys.executable, "-W", "ignore", "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return Probe(f"no answer within {_SECONDS} s")
    except OSError as error:
        return Probe(f"{command[0]} cannot be started: {error.strerror}")
    out, err = (told.decode(errors="replace") for told in (done.stdout, done.stderr))
    last = next((line.strip() for line in reversed(err.splitlines()) if line.strip()), "it said nothing")
    fault = f"ended by signal {-done.returncode}" if done.returncode < 0 else last
    return Probe(fault if done.returncode else "", out, err)
