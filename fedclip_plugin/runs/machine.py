"""Which machine this is, and what a process takes of it; memory is known on Linux only."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_OWN = Path("/proc/self")


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def resident_bytes(peak: bool = False) -> int:
    """Return this process's resident memory in bytes, now or at its highest.

    Raises
    ------
    OSError
        On a system other than Linux.
    """
    # Not getrusage: its peak starts with the memory of the process that forked this one.
    key = "VmHWM:" if peak else "VmRSS:"
    for line in (_OWN / "status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key} line; memory is measured on Linux only")


def forget_peak() -> None:
    """Let the highest resident memory start again from what is resident now.

    Raises
    ------
    OSError
        Where the kernel does not allow it.
    """
    (_OWN / "clear_refs").write_text("5", encoding="ascii")
