"""Where the figures were taken."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

from fedclip_edge.machine import cores
from fedclip_plugin.machine import processor

_PACKAGES = ("fedml", "torch", "transformers", "mpi4py", "numpy")


def describe() -> dict[str, Any]:
    """Return processor, cores, load and versions, as kept in ``benchmarks.json``."""
    return {
        "processor": processor(),
        "cores": cores(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }
