"""Which worker does what: the longest job first, to the worker with least to do."""

from __future__ import annotations

import heapq
from collections.abc import Mapping


def balanced(steps: Mapping[int, int], workers: int) -> list[list[int]]:
    """Share jobs out among workers (Graham 1969: the longest worker takes at most 4/3 of the shortest possible time).

    Parameters
    ----------
    steps
        Of each job, how long it takes, in any unit.

    Returns
    -------
    list of lists
        The jobs of each worker, rising.
    """
    shares: list[list[int]] = [[] for _ in range(workers)]
    load = [(0, worker) for worker in range(workers)]
    for job in sorted(steps, key=lambda job: (-steps[job], job)):
        busy, worker = heapq.heappop(load)
        shares[worker].append(job)
        heapq.heappush(load, (busy + steps[job], worker))
    return [sorted(share) for share in shares]
