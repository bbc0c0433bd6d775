"""Who does what in a simulation; every rank computes the same plan."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.simulation.client_data import ClientData, Job
from fedclip_plugin.recipe.client_sampling import lost, sampled


class _Drawn(NamedTuple):
    lost: set[int]
    by_worker: list[list[int]]
    weights: float  # of all clients of the round


class RoundPlan:
    """Which clients a round has, what their updates weigh, and which worker trains and scores what.

    Attributes
    ----------
    samples
        Of each client, how many images it trains on.
    kept
        What clients keep from one round to the next: ``adapter``, ``residual``.
    """

    def __init__(self, settings: TrainingSettings, data: ClientData, workers: int) -> None:
        self._settings, self._data, self.workers = settings, data, workers
        self.samples = data.train_sizes()
        kept = {"adapter": not settings.averaged, "residual": settings.codec != "none"}
        self.kept = tuple(name for name, is_kept in kept.items() if is_kept)
        self._draw = lru_cache(maxsize=2)(self._drawn)

    def lost(self, number: int) -> set[int]:
        """Return the clients of round ``number`` whose updates are lost."""
        return self._draw(number).lost

    def clients_of(self, worker: int, number: int) -> Sequence[int]:
        """Return those that a worker trains, rising."""
        return self._draw(number).by_worker[worker]

    def weight(self, client: int) -> float:
        """Return what a client's update weighs beside others."""
        return float(self.samples[client]) if self._settings.weighting == "samples" else 1.0

    def share(self, client: int, number: int) -> float:
        """Return a client's share of the weights of all clients that train in a round."""
        return self.weight(client) / self._draw(number).weights

    @cached_property
    def jobs(self) -> list[Job]:
        """What is scored in every round."""
        return self._data.jobs(own_adapters=not self._settings.averaged)

    @cached_property
    def own_jobs(self) -> list[Job]:
        """What clients' own adapters are scored on."""
        return self._data.jobs(own_adapters=True)

    def jobs_of(self, worker: int) -> Sequence[int]:
        """Return the indices of the :attr:`jobs` of a worker."""
        return self._shares(False)[worker]

    def own_jobs_of(self, worker: int) -> Sequence[int]:
        """Return the indices of the :attr:`own_jobs` of a worker."""
        return self._shares(True)[worker]

    @lru_cache(maxsize=2)  # noqa: B019 - a plan lives as long as its job
    def _shares(self, own: bool) -> list[list[int]]:
        jobs = self.own_jobs if own else self.jobs
        return balanced({index: job.stop - job.start for index, job in enumerate(jobs)}, self.workers)

    def _drawn(self, number: int) -> _Drawn:
        settings = self._settings
        asked = settings.taking_part(number, len(self._data))
        clients = sampled(settings.random_seed, number, len(self._data), asked)
        gone = lost(settings.random_seed, number, clients, settings.client_drop_rate)
        steps = {
            client: settings.epochs * max(1, -(-self.samples[client] // settings.batch_size)) for client in clients
        }
        weights = sum(self.weight(client) for client in clients)
        return _Drawn(gone, balanced(steps, self.workers), weights)


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
