"""Which machine this is, and what a process takes of it; Linux tells most, macOS enough.

Imports nothing at once that reads thread counts: :func:`fedclip_plugin.ranks.share_cores` sets them first.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any

from fedclip_plugin.errors import FedClipError

if TYPE_CHECKING:
    import torch

_OWN = Path("/proc/self")


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def resident_bytes(peak: bool = False) -> int:
    """Return this process's resident memory in bytes, now or at its highest."""
    if not _OWN.is_dir():
        import psutil  # type: ignore[import-untyped]

        return getrusage(RUSAGE_SELF).ru_maxrss if peak else int(psutil.Process().memory_info().rss)  # macOS: bytes too
    # Not getrusage: its peak starts with the memory of the process that forked this one.
    key = "VmHWM:" if peak else "VmRSS:"
    for line in (_OWN / "status").read_text(encoding="ascii").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key} line")


def forget_peak() -> None:
    """Let the highest resident memory start again from what is resident now; ``OSError`` where that is not allowed."""
    (_OWN / "clear_refs").write_text("5", encoding="ascii")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute on ``count`` threads in the block; on one, its sums always run in the same order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def torch_device(given: Any) -> torch.device:
    """Return the torch device of a name; a FedClipError where this machine has none of that name that computes."""
    import torch

    try:
        device = torch.device(given)
        torch.zeros(1, device=device).item()
    except (AssertionError, RuntimeError, TypeError) as error:  # each of them of another build of torch
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FedClipError(
            f"device = {str(given)!r} cannot be used here ({reason}); give 'cpu', or leave it out to take a GPU where "
            "there is one"
        ) from error
    return device
