"""What memory hosts have left, and a refusal to start what cannot fit; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Self

from fedclip_edge.machine import cores
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.errors import MemoryShortageError
from fedclip_plugin.federated.startup.memory_estimate import BASE_SHARED, Footprint, footprint
from fedclip_plugin.methods.registry import require_family
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.trust.egress import sends_through_egress

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_GB = 1e9

_SURE = 0.85
"""Part of an estimate that is needed for certain: estimates are a little high, and what may just fit is not refused."""


@dataclass(frozen=True)
class RankMemory:
    """What a rank says of memory to the other ranks on its machine, and to nobody else.

    Attributes
    ----------
    server
        Whether it is the server's rank.
    available
        Bytes that the machine has to spare.
    held
        Bytes that the rank holds already, beyond what ranks share.
    """

    server: bool
    available: int
    held: int

    @classmethod
    def here(cls, server: bool) -> Self:
        """Return how it is with this process."""
        import psutil  # type: ignore[import-untyped]

        own = psutil.Process().memory_info()
        return cls(server, available_bytes(), own.rss - getattr(own, "shared", 0))


def require_memory_here(recipes: Iterable[Recipe], away: int = 0) -> None:
    """Refuse federations that do not fit into this host's memory, one at a time, with all their ranks on it.

    ``away`` silos of each take no part. The largest of the recipes counts. Errors as :func:`require_memory`, a
    BackboneError when one is not here, and a MethodError when it does not go with the method.
    """
    recipes = list(recipes)
    locate = cache(locate_backbone)  # one for many cells of a study
    for recipe in recipes:
        settings = recipe.fedclip_args
        require_family(settings.method, read_clip_config(locate(settings.backbone)), settings.backbone)
    logged = sends_through_egress()
    needs = [
        (
            footprint(recipe, locate(recipe.fedclip_args.backbone), logged=logged),
            recipe.rank_count(workers=cores()) - 1 - away,
        )
        for recipe in recipes
    ]
    need, silos = max(needs, key=lambda pair: pair[0].on_host(pair[1], server=True))
    require_memory(need, silos, True, available_bytes())


def require_memory_of(need: Footprint, ranks: Sequence[RankMemory]) -> None:
    """Refuse a federation whose ranks, those on one machine, have begun, but do not fit into its memory."""
    server = any(rank.server for rank in ranks)
    room = min(rank.available for rank in ranks) + BASE_SHARED + sum(rank.held for rank in ranks)
    require_memory(need, len(ranks) - server, server, room)


def require_memory_of_process(need: Footprint) -> None:
    """Refuse a federation that does not fit into this process; errors as :func:`require_memory`."""
    own = RankMemory.here(server=True)
    whole, room = need.one_process + BASE_SHARED, own.available + BASE_SHARED + own.held
    if whole * _SURE > room:
        raise MemoryShortageError(
            f"this federation takes up to {whole / _GB:.1f} GB of memory in one process; there are {room / _GB:.1f} GB "
            "for it. Take fewer silos, a smaller batch_size or a method that trains less, or free or add memory",
            whole,
            room,
        )


def require_memory(need: Footprint, silos: int, server: bool, room: int) -> None:
    """Refuse a federation that cannot fit into a host's memory, even if the estimate is high.

    ``room`` are the bytes that there are for the ranks on the host, what they hold already included. The
    MemoryShortageError says what is needed, what there is, and what helps.
    """
    whole = need.on_host(silos, server)
    if whole * _SURE <= room:
        return
    parts = [f"{silos} x {need.silo / _GB:.1f} GB for silos"] * (silos > 0)
    parts += [f"{need.server / _GB:.1f} GB for the server"] * server
    raise MemoryShortageError(
        f"this federation takes up to {whole / _GB:.1f} GB of memory on this host: {', '.join(parts)}, "
        f"{BASE_SHARED / _GB:.1f} GB for libraries; there are {room / _GB:.1f} GB for it. Take fewer silos "
        "(train_args.client_num_in_total), a smaller train_args.batch_size or a method that trains less, free or add "
        "memory, or spread the ranks over more hosts with fedclip launch --hostfile",
        whole,
        room,
    )


def available_bytes() -> int:
    """Return the bytes that new processes can take before the kernel ends one of them.

    The least of what the host has to spare, swap included, and of what each enclosing control group still allows.
    """
    import psutil

    host = int(psutil.virtual_memory().available) + int(psutil.swap_memory().free)
    return min([host, *cgroup_rooms(_OWN_CGROUPS, _CGROUPS)])


def cgroup_rooms(own: Path, root: Path) -> Iterator[int]:
    """Yield the bytes left in every control group with a limit that this process is in, versions 1 and 2.

    ``own`` is ``/proc/self/cgroup``, ``root`` where control groups are mounted.
    """
    lines = own.read_text(encoding="utf-8").splitlines() if own.is_file() else []
    for _, controllers, place in (line.split(":", 2) for line in lines):
        if controllers == "":
            yield from _rooms(root, place, "memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
            yield from _rooms(root / "memory", place, limit, usage, "total_")


def _rooms(root: Path, place: str, limit: str, usage: str, prefix: str) -> Iterator[int]:
    """Yield the room in a group and in those around it; in a container only the outermost may be visible."""
    path = PurePosixPath(place.lstrip("/"))
    for folder in (root / part for part in (path, *path.parents)):
        allowed = folder / limit
        if not allowed.is_file() or (text := allowed.read_text().strip()) == "max":
            continue
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cached = sum(int(statistics.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
        yield max(0, int(text) - int((folder / usage).read_text()) + cached)  # cached files can be dropped
