"""What the clients of a simulation train on and are scored on; features are looked up, never copied as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fedclip_plugin.data import Split
from fedclip_plugin.data.clients import Clients
from fedclip_plugin.features import FeatureSet, InputSet, SiloFeatures
from fedclip_plugin.federated.roles.class_scorer import ClassImages, EveryClass, class_images

_CHUNK = 1024
"""Images that one adapter scores in one job; the same whatever the workers, so that every sum is."""


class Job(NamedTuple):
    """Images to be scored: those ``start`` to ``stop`` of :class:`ScoredImages`, which are in one image set."""

    image_set: int
    start: int
    stop: int
    client: int | None = None  # whose own adapter scores them; None: the global one


@dataclass(frozen=True)
class ScoredImages:
    """The images that adapters are scored on: of each client first its validation split, then its test split.

    M images; clients in order.
    """

    rows: NDArray[np.int64]  # in their image set, ``[M]``
    labels: NDArray[np.int64]  # ``[M]``
    owners: NDArray[np.int64]  # client, ``[M]``
    tests: NDArray[np.bool_]  # whether it is of the test split, ``[M]``
    ends: NDArray[np.int64]  # where each client's images end, ``[K]``


class ClientData(Mapping[int, SiloFeatures]):
    """The images of K clients as methods take them, by index of the client: FedML's local data sets.

    Parameters
    ----------
    clients
        Who has which images, readable ones alone.
    splits
        Of each client, in its image set.
    features, taken
        Of each image set, features of the backbone, and what the method takes in: the same, or pixels.
    """

    def __init__(
        self, clients: Clients, splits: Sequence[Split], features: Sequence[FeatureSet], taken: Sequence[InputSet]
    ) -> None:
        self.names = tuple(client.name for client in clients.members)
        self.sources = clients.sources
        order = {name: index for index, name in enumerate(self.sources)}
        self.source_of = np.array([order[client.source] for client in clients.members])
        self.splits = list(splits)
        self.features, self.taken = list(features), list(taken)
        self._set_of = [client.image_set for client in clients.members]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __getitem__(self, client: int) -> SiloFeatures:
        """Return copies of a client's splits; augmented views are of what is trained on alone."""
        data, own = self.taken[self._set_of[client]], self.splits[client]
        plain = data.without_views()
        return SiloFeatures(data.subset(own.train), plain.subset(own.validation), plain.subset(own.test))

    def train(self, client: int) -> InputSet:
        """Return a copy of what a client trains on."""
        return self.taken[self._set_of[client]].subset(self.splits[client].train)

    def to_train_on(self, client: int) -> SiloFeatures:
        """Return the same as what a trainer takes: a client's splits, of which the others are empty."""
        none = self.taken[self._set_of[client]].without_views().subset(np.zeros(0, np.int64))
        return SiloFeatures(self.train(client), none, none)

    def train_sizes(self) -> list[int]:
        """Return how many images each client trains on."""
        return [len(own.train) for own in self.splits]

    @cached_property
    def scored(self) -> ScoredImages:
        """The images that adapters are scored on."""
        parts = [part for own in self.splits for part in (own.validation, own.test)]
        sizes = np.array([len(part) for part in parts])
        owners = np.repeat(np.arange(len(self)), sizes.reshape(-1, 2).sum(axis=1))
        tests = np.repeat(np.tile([False, True], len(self)), sizes)
        rows = np.concatenate(parts)
        labels = np.empty(len(rows), np.int64)
        of_set = np.array(self._set_of)[owners]
        for index, data in enumerate(self.features):
            labels[of_set == index] = data.labels.cpu().numpy()[rows[of_set == index]]
        return ScoredImages(rows, labels, owners, tests, np.cumsum(sizes.reshape(-1, 2).sum(axis=1)))

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Which of the images of all sets, one set after the other, each scored image is, ``[M]``."""
        starts = np.cumsum([0, *(len(data) for data in self.features)])
        found: NDArray[np.int64] = self.scored.rows + starts[np.array(self._set_of)[self.scored.owners]]
        return found

    def jobs(self, own_adapters: bool) -> list[Job]:
        """Return what is to be scored: client by client where each has an adapter of its own, else in chunks."""
        ends, jobs, start = self.scored.ends.tolist(), list[Job](), 0
        for client, end in enumerate(ends):
            last = client + 1 == len(ends) or self._set_of[client + 1] != self._set_of[client]
            if own_adapters:
                jobs.append(Job(self._set_of[client], start, end, client))
                start = end
            while not own_adapters and (end - start >= _CHUNK or (last and end > start)):
                stop = min(end, start + _CHUNK)
                jobs.append(Job(self._set_of[client], start, stop))
                start = stop
        return jobs

    def images(self, job: Job, as_features: bool = False) -> InputSet:
        """Return a copy of a job's images, as the method takes them, or the features of the backbone."""
        data: InputSet = (self.features if as_features else self.taken)[job.image_set]
        return data.without_views().subset(torch.from_numpy(self.scored.rows[job.start : job.stop]))

    def class_images(self, every: EveryClass) -> dict[str, tuple[ClassImages, ...]]:
        """Return each source's test images of base and of new classes, a part for each of its image sets."""
        found: dict[str, tuple[ClassImages, ...]] = {}
        for source, number in sorted(set(zip(self.source_of.tolist(), self._set_of, strict=True))):
            own = [
                split
                for split, *place in zip(self.splits, self.source_of.tolist(), self._set_of, strict=True)
                if place == [source, number]
            ]
            rows = [np.concatenate([getattr(split, part) for split in own]) for part in ("test", "new")]
            kinds = (data[number].without_views() for data in (self.features, self.taken))
            seen, taken = ((data.subset(rows[0]), data.subset(rows[1])) for data in kinds)
            found[self.sources[source]] = (*found.get(self.sources[source], ()), class_images(every, seen, taken))
        return found
