"""Clients that are trained in torch's own words: Adam on a module, nothing around it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from benchmarks.setup.random_clients import LOGIT_SCALE, Population
from fedclip_plugin.features.mapped_features import MappedFeatures
from fedclip_plugin.methods import Adapter, create_adapter

_BATCH = 32


class PlainClients:
    """The clients of a simulation on random features; each is trained for an epoch, as the product trains it."""

    def __init__(self, population: Population, features: Path, name: str) -> None:
        self._splits, self._frozen = population.members(features).splits(0), population.frozen()
        self._data = MappedFeatures(features).read(name, population.labels())

    def adapter(self) -> Adapter:
        """Return an untrained adapter."""
        return create_adapter("fedclip", self._frozen, 0)

    def images(self, client: int) -> int:
        """Return how many images a client trains on."""
        return len(self._rows[client])

    def train(self, adapter: Adapter, client: int) -> None:
        """Train an adapter on one client's images."""
        optimizer = torch.optim.Adam(adapter.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-6, fused=True)
        rows = self._rows[client]
        own, labels = self._data.features[rows], self._data.labels[rows]
        order = torch.randperm(len(rows))
        for start in range(0, len(rows) - 1, _BATCH):
            chosen = order[start : start + _BATCH]
            optimizer.zero_grad()
            adapted, text = adapter(own[chosen]), self._frozen.text.features[labels[chosen]]
            similarity, pairs = LOGIT_SCALE * adapted @ text.T, torch.arange(len(chosen))
            (cross_entropy(similarity, pairs) + cross_entropy(similarity.T, pairs)).div(2).backward()
            optimizer.step()

    @cached_property
    def _rows(self) -> list[torch.Tensor]:
        return [torch.from_numpy(own.train) for own in self._splits]
