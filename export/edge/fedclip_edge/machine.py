"""What this process may use of its machine; imports nothing that reads thread counts."""

from __future__ import annotations

import os


def cores() -> int:
    """Return how many cores this process may use; on a system that cannot tell, such as macOS, all of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
