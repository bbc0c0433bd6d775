"""Where the figures were taken, and what a process takes of it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("fedml", "torch", "transformers", "mpi4py", "numpy")


def describe() -> dict[str, Any]:
    """Return processor, cores, load and versions, as kept in ``benchmarks.json``."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def resident_bytes(peak: bool = False) -> int:
    """Return this process's resident memory in bytes, now or at its highest."""
    # Not getrusage: its peak starts with the memory of the process that forked this one.
    key = "VmHWM:" if peak else "VmRSS:"
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key} line; these benchmarks need Linux")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
