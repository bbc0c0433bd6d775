"""Who trains in a round, and whose update is lost; the same on every rank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

SAMPLE, LOSE = 2, 4
"""What a random generator is for, beside seed and round (see :mod:`fedclip_plugin.federated.roles.trainer`)."""


def sampled(seed: int, number: int, total: int, count: int) -> list[int]:
    """Return the indices of the ``count`` of ``total`` silos or clients that train in round ``number``, rising.

    FedML's own choice repeats round 0's and reseeds numpy.
    """
    rng = np.random.default_rng([seed, number, SAMPLE])
    return sorted(rng.choice(total, count, replace=False).tolist())


def lost(seed: int, number: int, clients: Sequence[int], rate: float) -> set[int]:
    """Return those of a round's clients whose updates are lost, each with probability ``rate``.

    What is drawn for a client does not depend on the other clients of the round.
    """
    if not rate:
        return set()
    return {client for client in clients if np.random.default_rng([seed, client, number, LOSE]).random() < rate}


def survivors(seed: int, number: int, total: int, count: int, rate: float, enough: int) -> int:
    """Return how many updates of round ``number`` are not lost, counted up to ``enough``; the others as above."""
    kept = (client for client in sampled(seed, number, total, count) if not lost(seed, number, (client,), rate))
    return sum(1 for _ in islice(kept, enough))
