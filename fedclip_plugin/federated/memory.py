"""What memory this host has left, and a refusal to start what cannot fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fedclip_plugin.errors import MemoryShortageError
from fedclip_plugin.federated.footprint import BASE_OWN, BASE_SHARED, Footprint

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_GB = 1e9


def require_memory(need: Footprint, silos: int, server: bool, running: bool = False) -> None:
    """Refuse a federation that does not fit into this host's memory.

    Parameters
    ----------
    need
        What its ranks take.
    silos
        Silos' ranks on this host.
    server
        Whether the server's rank is on this host.
    running
        Whether these ranks have imported everything already, so that this need not fit any more.

    Raises
    ------
    MemoryShortageError
        When it does not fit; says what is needed, what there is, and what helps.
    """
    whole, room = need.on_host(silos, server), available_bytes()
    if running:
        room += BASE_SHARED + (silos + server) * BASE_OWN
    if whole <= room:
        return
    parts = [f"{silos} silos x {need.silo / _GB:.1f} GB"] * (silos > 0) + [
        f"a server {need.server / _GB:.1f} GB"
    ] * server
    raise MemoryShortageError(
        f"this federation takes up to {whole / _GB:.1f} GB of memory on this host ({', '.join(parts)}), and "
        f"there are {room / _GB:.1f} GB for it: take fewer silos (train_args.client_num_in_total) or a smaller "
        "train_args.batch_size, free or add memory, or spread the ranks over more hosts with fedclip launch --hostfile"
    )


def available_bytes() -> int:
    """Return the bytes that new processes can take before the host swaps or the kernel ends one of them.

    The least of what the host has to spare and of what each enclosing control group still allows.
    """
    import psutil  # type: ignore[import-untyped]

    return min([int(psutil.virtual_memory().available), *cgroup_rooms(_OWN_CGROUPS, _CGROUPS)])


def cgroup_rooms(own: Path, root: Path) -> Iterator[int]:
    """Yield the bytes left in every control group with a limit that this process is in, versions 1 and 2.

    Parameters
    ----------
    own
        ``/proc/self/cgroup``.
    root
        Where control groups are mounted, ``/sys/fs/cgroup``.
    """
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    for _, controllers, place in (line.split(":", 2) for line in lines):
        if controllers == "":
            yield from _rooms(root, place, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
            yield from _rooms(root / "memory", place, limit, usage, "total_inactive_file")


def _rooms(root: Path, place: str, limit: str, usage: str, cache: str) -> Iterator[int]:
    """Yield the room in a group and in those around it; in a container only the outermost may be visible."""
    path = PurePosixPath(place.lstrip("/"))
    for folder in (root / part for part in (path, *path.parents)):
        allowed = folder / limit
        if not allowed.is_file() or (text := allowed.read_text().strip()) == "max":
            continue
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used = int((folder / usage).read_text()) - int(statistics.get(cache, 0))  # pages that can be dropped at once
        yield max(0, int(text) - used)
