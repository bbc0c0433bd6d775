"""What robust aggregation is worth: accuracy on the miniature when one of three silos, or two of nine, attack.

Beside it, how far the norms of honest silos' updates are from the median of their round, which says what bound touches
none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.setup.attacked_federation import ATTACKS, HONEST, Attack, MiniatureSilos, Outcome
from benchmarks.setup.ratios import Figure
from benchmarks.setup.workload import Scale
from fedclip_edge.terminal import align
from fedclip_plugin.machine import torch_threads

TITLE = "attacks: accuracy in % on the miniature, FedCLIP, sketch held out: sources / target"

RULES: dict[str, dict[str, Any]] = {
    "none": {"robust_aggregation": "none"},
    "norm_bound 10": {"robust_aggregation": "norm_bound", "norm_bound_factor": 10.0},
    "norm_bound 5": {"robust_aggregation": "norm_bound", "norm_bound_factor": 5.0},
    "norm_bound 2": {"robust_aggregation": "norm_bound", "norm_bound_factor": 2.0},
    "median": {"robust_aggregation": "median"},
    "trimmed_mean": {"robust_aggregation": "trimmed_mean"},
    "geometric_median": {"robust_aggregation": "geometric_median"},
    "multi_krum": {"robust_aggregation": "multi_krum"},
}
"""What each row has, as settings; the number is ``norm_bound_factor``, of which 5 is the default."""

_NEEDS = {"multi_krum": 5}  # silos, with one bad one
_SHARED = {1: (3, 1), 3: (9, 2)}
"""Silos a domain to silos, and how many of them attack."""

_SKEWED = {"data_args__partition_method": "hetero", "data_args__partition_alpha": 0.1}
_UNEVEN = (0.1, 0.1, 1.0)
_HONEST: dict[str, tuple[int, str, Sequence[float]]] = {
    "fedclip, 3 silos": (1, "fedclip", ()),
    "sigmoid_gate, 3 silos": (1, "sigmoid_gate", ()),
    "linear_probe, 3 silos": (1, "linear_probe", ()),
    "fedclip, 3 silos, one with 10 times the images": (1, "fedclip", _UNEVEN),
    "sigmoid_gate, 3 silos, one with 10 times the images": (1, "sigmoid_gate", _UNEVEN),
    "linear_probe, 3 silos, one with 10 times the images": (1, "linear_probe", _UNEVEN),
    "clip_adapter, 3 silos, one with 10 times the images": (1, "clip_adapter", _UNEVEN),
    "fedclip, 30 silos, Dirichlet 0.1": (10, "fedclip", ()),
    "sigmoid_gate, 30 silos, Dirichlet 0.1": (10, "sigmoid_gate", ()),
    "linear_probe, 30 silos, Dirichlet 0.1": (10, "linear_probe", ()),
}
"""Federations without a bad silo: silos a domain, method, and shares of its images that a silo has."""


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures; a bounded update's warning is not shown for every one of them."""
    logging.disable(logging.WARNING)
    try:
        with torch_threads(1):
            figures = [figure for each in _SHARED for figure in _accuracies(each, scale, work)]
            return figures + list(_norms(scale, work))
    finally:
        logging.disable(logging.NOTSET)


def table(title: str, figures: Sequence[Figure]) -> str:
    """Return the accuracies as one table for each number of silos, attacks as columns, and the norms below."""
    lines = [f"== {title}"]
    told = {figure.name: figure for figure in figures}
    columns = [HONEST.title, *(attack.title for attack in ATTACKS)]
    for silos, attackers in _SHARED.values():
        head = f"{attackers} of {silos}"
        rows = [[head, *columns]]
        for rule in RULES:
            cells = [_cell(told, f"{head}, {rule}, {attack}") for attack in columns]
            if any(cells):
                rows.append([rule, *cells])
        rows.append(["zero-shot CLIP", _cell(told, f"{head}, zero-shot CLIP"), *[""] * len(ATTACKS)])
        lines += [align(rows), ""]
    norms = [figure for figure in figures if figure.unit == "x"]
    rows = [["largest norm of an honest update", "medians"], *([one.name, f"{one.value:.1f}"] for one in norms)]
    return "\n".join([*lines, align(rows)])


def _cell(told: dict[str, Figure], name: str) -> str:
    found = [told.get(f"{name}, {place}") for place in ("sources", "target")]
    return " / ".join(f"{one.value:.1f}" for one in found if one is not None)


def _accuracies(each: int, scale: Scale, work: Path) -> Iterator[Figure]:
    silos, attackers = _SHARED[each]
    head = f"{attackers} of {silos}"
    seeds = [
        MiniatureSilos(work, each, common_args__random_seed=seed, train_args__comm_round=scale.attack_rounds)
        for seed in range(scale.attack_seeds)
    ]
    yield from _figures(f"{head}, zero-shot CLIP", [own.zero_shot() for own in seeds])
    for name, rule in RULES.items():
        if silos < _NEEDS.get(name, 0):
            continue
        for attack in (HONEST, *ATTACKS):
            yield from _figures(f"{head}, {name}, {attack.title}", _federate(seeds, rule, attack, attackers))


def _federate(seeds: Sequence[MiniatureSilos], rule: dict[str, Any], attack: Attack, bad: int) -> list[Outcome]:
    return [own.federate(rule | {"byzantine_silos": bad}, attack, bad) for own in seeds]


def _figures(name: str, outcomes: Sequence[Outcome]) -> Iterator[Figure]:
    for place in ("sources", "target"):
        values = [float(getattr(own, place)) for own in outcomes]
        spread = f"sd over seeds {stdev(values):.1f}" if len(values) > 1 else ""
        yield Figure(f"{name}, {place}", fmean(values), "%", len(values), note=spread)


def _norms(scale: Scale, work: Path) -> Iterator[Figure]:
    """Yield, of federations without a bad silo, the largest norm of an update in medians of its round."""
    rounds = {"train_args__comm_round": scale.attack_rounds}
    made = {
        each: MiniatureSilos(work, each, **rounds, **(_SKEWED if each > 1 else {}))
        for each in sorted({each for each, _, _ in _HONEST.values()})
    }
    for name, (each, method, shares) in _HONEST.items():
        found = made[each].federate(RULES["none"], method=method, shares=shares)
        yield Figure(name, found.largest, "x", scale.attack_rounds)
