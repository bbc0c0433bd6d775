"""What a run's records know of each silo: one that was late in some rounds has told it in others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from statistics import fmean

from fedclip_plugin.runs.round_record import RoundRecord


def zero_shot_scores(rounds: Sequence[RoundRecord], part: str) -> dict[str, float]:
    """Return zero-shot CLIP's accuracy on a split by silo; silos that have not told it are left out."""
    told = [(name, silo.zero_shot) for record in rounds for name, silo in record.silos.items() if silo.zero_shot]
    found = {name: scores[part] for name, scores in told if part in scores}
    return {name: found[name] for name in rounds[0].silos if name in found}


def zero_shot_mean(rounds: Sequence[RoundRecord], part: str, beside: RoundRecord | None = None) -> float | None:
    """Return zero-shot CLIP's mean accuracy on a split over the silos; None where one of them has not told it.

    These are the silos whose scores are in the means of ``beside``; without it all that were ever there.
    """
    known = zero_shot_scores(rounds, part)
    if beside is not None:
        names = [name for name in beside.silos if name not in beside.silent]
    else:
        names = [name for name in rounds[0].silos if any(name not in record.without for record in rounds)]
    return fmean(known[name] for name in names) if names and all(name in known for name in names) else None


def image_counts(rounds: Sequence[RoundRecord], part: str) -> dict[str, int]:
    """Return how many images each silo's split has; silos that have never been scored are left out."""
    found: dict[str, int] = {}
    for record in rounds:
        if len(found) == len(record.silos):
            break
        found |= {name: silo.images[part] for name, silo in record.silos.items() if part in silo.images}
    return {name: found[name] for name in rounds[0].silos if name in found}


def silo_rounds(rounds: Sequence[RoundRecord], field: str) -> list[str]:
    """Return which silo, or client, a field of the records names in which rounds: a text for each stretch of rounds."""
    found = []
    for name in dict.fromkeys(name for record in rounds for name in getattr(record, field)):
        there = [(name in getattr(record, field), record.round) for record in rounds]
        for named, stretch in groupby(there, key=itemgetter(0)):
            numbers = [number for _, number in stretch]
            if named:
                last = f" to {numbers[-1]}" if len(numbers) > 1 else ""
                found.append(f"{name} of round{'s' if last else ''} {numbers[0]}{last}")
    return found
