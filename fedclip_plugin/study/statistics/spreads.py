"""Means over domains, deviations over seeds, and what intervals are told of, from the results of cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from fedclip_plugin.study.running.cell_result import CellResult
from fedclip_plugin.study.running.study_messages import Question

Kind = Literal["generalization", "personalization"]
"""On the unseen target domain, or on the silos' own test splits."""

KINDS: tuple[Kind, ...] = ("generalization", "personalization")

ByDomain = dict[str, dict[int, float]]
"""Domain to seed to accuracy."""


@dataclass(frozen=True)
class Spread:
    """Accuracy over seeds.

    Attributes
    ----------
    mean
        Mean of the seeds' accuracies, a fraction.
    deviation
        Standard deviation over seeds (with n - 1); None for one seed.
    """

    mean: float
    deviation: float | None


def spread(by_seed: Sequence[float]) -> Spread | None:
    """Return mean and standard deviation over seeds; None for no seed."""
    if not by_seed:
        return None
    return Spread(fmean(by_seed), stdev(by_seed) if len(by_seed) > 1 else None)


def over_domains(values: Mapping[str, Mapping[int, float]], seeds: Sequence[int]) -> Spread | None:
    """Return the spread over seeds of the mean over domains; None without domains or seeds.

    Parameters
    ----------
    values
        Domain to seed to accuracy; every domain has every one of the seeds.
    """
    return spread([fmean(by_seed[seed] for by_seed in values.values()) for seed in seeds]) if values else None


def over_targets(
    results: Sequence[CellResult], seeds: Sequence[int], value: Callable[[CellResult], float]
) -> Spread | None:
    """Return the spread over seeds of the mean over targets of a number of each cell; None without seeds.

    Parameters
    ----------
    results
        Cells of one case; every target has every one of the seeds.
    """
    return spread([fmean(value(result) for result in results if result.seed == seed) for seed in seeds])


def accuracies(results: Sequence[CellResult], kind: Kind, column: str) -> ByDomain:
    """Return accuracies by domain and seed; a silo's is the mean over the federations that it took part in.

    Parameters
    ----------
    results
        Cells of one case: its chosen points, all targets and seeds.
    column
        ``zero_shot``, ``selected``, ``last`` or, for silos that were fine-tuned, ``personal``.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for result in results:
        for domain, part in parts(result, kind).items():
            accuracy = result.target_accuracy if part == "target" else result.sources[part]
            found.setdefault(domain, {}).setdefault(result.seed, []).append(getattr(accuracy, column))
    return {domain: {seed: fmean(some) for seed, some in seeds.items()} for domain, seeds in found.items()}


def questions(results: Sequence[CellResult], kind: Kind) -> dict[str, Question]:
    """Return by domain what its interval is told of: an image takes part with all that was answered for it.

    A silo's test split is the same whichever other domain is held out, so its images are told together.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for result in results:
        for domain, part in parts(result, kind).items():
            found.setdefault(domain, (part, []))[1].append(result.name)
    return {domain: Question(part, tuple(sorted(cells))) for domain, (part, cells) in found.items()}


def parts(result: CellResult, kind: Kind) -> dict[str, str]:
    """Return the domains that a cell tells of, and the name of their answers in it."""
    if kind == "personalization":
        return {silo: silo for silo in result.sources}
    return {result.target: "target"} if result.target is not None else {}
