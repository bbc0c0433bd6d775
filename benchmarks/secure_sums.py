"""Milliseconds that secure sums add to a round of 525,312 parameters, and what of it is the masking of one silo."""

from __future__ import annotations

import shutil
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.setup.mpi_jobs import rounds_of, run_job
from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.synthetic import Work
from benchmarks.setup.workload import PACS_SOURCES, PACS_TARGET, Scale
from fedclip_plugin.federated.fedml_imports import import_fedml
from fedclip_plugin.trust.silo_keys import ROSTER, VARIABLE, load_identity, new_key

TITLE = "secure_sums: rounds of 525,312 parameters under mpirun, with masks and without, in turn"
GOAL_MS = 60.0
_FEW_IMAGES, _MANY_SILOS = 16, 8
_MEMBERS = (3, 8, 32)
_SHAPES = {"gate.0.weight": (512, 512), "gate.0.bias": (512,), "gate.2.weight": (512, 512), "gate.2.bias": (512,)}
_DIFFERENCES = (0.0, 0.1, 0.5, 1.0)
_REPEATS, _LIMIT_SECONDS = 2, 900.0


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures: federations of three and of eight silos, then masking and adding up alone."""
    figures = compare(
        "3 silos, PACS's counts", federate(Work(PACS_SOURCES, PACS_TARGET), scale.rounds, work), scale.skipped, GOAL_MS
    )
    for silos, goal in ((3, GOAL_MS), (_MANY_SILOS, None)):
        held = Work((_FEW_IMAGES,) * silos, _FEW_IMAGES)
        found = federate(held, scale.rounds, work)
        figures += compare(f"{silos} silos, {_FEW_IMAGES} images each", found, scale.skipped, goal)
    for members in _MEMBERS:
        figures += alone(members, work / f"masks_{members}")
    return [*figures, *map(leaked, _DIFFERENCES)]


def leaked(difference: float, silos: int = 3) -> Figure:
    """Return how a silo's update correlates with the difference of two sums of one round, with it and without.

    The others' second updates are their first ones and noise of ``difference`` times their norm, so that the
    correlation is about ``1 / sqrt(1 + (silos - 1) difference^2)``.
    """
    first = [torch.cat([own.flatten() for own in _parameters(number).values()]) for number in range(silos)]
    noise = [torch.cat([own.flatten() for own in _parameters(silos + number).values()]) for number in range(silos - 1)]
    again = torch.stack([own + difference * other for own, other in zip(first[:-1], noise, strict=True)])
    seen = torch.stack([torch.stack(first).sum(0) - again.sum(0), first[-1]])
    note = f"the others' second updates differ by {100 * difference:.0f} %"
    return Figure(f"a silo lost in a redo: correlation, {note}", float(torch.corrcoef(seen)[0, 1]), "-")


def write_keys(folder: Path, silos: Sequence[str]) -> Path:
    """Make a key for each silo and the roster of all, in an empty folder, and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    lines = {silo: new_key(folder, silo).raw.hex() for silo in silos}
    (folder / ROSTER).write_text(yaml.safe_dump(lines), encoding="utf-8")
    return folder.absolute()


def federate(held: Work, rounds: int, work: Path) -> list[dict[str, Any]]:
    """Run federations without and with secure sums in turn, in one job; return what the server reported of each."""
    silos = [f"silo_{index}" for index in range(len(held.sources))]
    keys = write_keys(work / f"keys_{len(silos)}", silos)
    words = ["--masked", "--rounds", str(rounds), *[str(held)] * _REPEATS]
    place, ranks = work / f"secure_sums_{len(silos)}", len(silos) + 1
    job = run_job("benchmarks.ranks.features_rank", words, place, ranks, _LIMIT_SECONDS, {VARIABLE: str(keys)})
    found: list[dict[str, Any]] = job.ranks[0]["federations"]
    return found


def compare(kind: str, federations: Sequence[dict[str, Any]], skipped: int, goal: float | None = None) -> list[Figure]:
    """Return milliseconds of a round without and with secure sums, and bytes up, from federations that took turns."""
    records = [rounds_of(federation, skipped) for federation in federations]
    plain, masked = ([record for own in records[start::2] for record in own] for start in (0, 1))
    wall = [[1000 * record.seconds["round"] for record in own] for own in (plain, masked)]
    up = [median(record.bytes_up for record in own) for own in (plain, masked)]
    more, ratio = median(wall[1]) - median(wall[0]), median(wall[1]) / median(wall[0])
    return [
        of_samples(f"{kind}: round", wall[0], "ms"),
        of_samples(f"{kind}: round with secure sums", wall[1], "ms"),
        Figure(f"{kind}: more", more, "ms", len(wall[0]), at_most=goal),
        Figure(f"{kind}: with / without", ratio, "x", len(wall[0])),
        Figure(f"{kind}: bytes up, more", up[1] - up[0], "bytes", len(plain), note=f"of {up[0]:,.0f}"),
    ]


def alone(members: int, work: Path, repeats: int = 5) -> list[Figure]:
    """Return what one silo's masking takes among so many members, and the server's adding up; nothing else runs."""
    import_fedml()
    from fedclip_plugin.federated.secure_sums.collector import average
    from fedclip_plugin.federated.secure_sums.hello import Purpose, RoundMembers
    from fedclip_plugin.federated.secure_sums.masked_rounds import MASKED_ROUNDS, MaskedRounds
    from fedclip_plugin.federated.secure_sums.member import SumMember

    silos = [f"silo_{number:02d}" for number in range(members)]
    keys = write_keys(work, silos)
    began, every = time.perf_counter(), []
    for silo in silos:
        rounds = MaskedRounds(keys / silo / MASKED_ROUNDS, redo=False)
        rounds.begin(0)
        every.append(SumMember(load_identity(keys, silo), Purpose("0" * 64, "benchmark"), 1000, rounds))
    introduced = 1000 * (time.perf_counter() - began) / members
    held = _parameters(0)
    trained = OrderedDict((name, own + 1e-3 * _parameters(1)[name]) for name, own in held.items())
    masking: list[float] = []
    for number in range(1, repeats + 2):
        told = RoundMembers(number, tuple(member.hello for member in every))
        began = time.perf_counter()
        every[0].mask_update(number, told, held, trained, 1.0)
        masking.append(1000 * (time.perf_counter() - began))
    told = RoundMembers(99, told.hellos)
    sent = [(1000, member.mask_update(99, told, held, trained, 1.0)) for member in every]
    began = time.perf_counter()
    average(held, sent, silos, {}, 1.0)
    adding = 1000 * (time.perf_counter() - began)
    first, *later = masking
    return [
        Figure(f"{members} members: a silo makes its keys and says hello", introduced, "ms", note="once a start"),
        Figure(f"{members} members: a silo's first masking", first, "ms", note="it looks at the others' signatures"),
        of_samples(f"{members} members: a silo's masking", later, "ms", note="a line on its disk included"),
        Figure(f"{members} members: the server adds up", adding, "ms"),
    ]


def _parameters(seed: int) -> OrderedDict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return OrderedDict((name, 0.05 * torch.randn(shape, generator=generator)) for name, shape in _SHAPES.items())
