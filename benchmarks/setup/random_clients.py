"""The clients of a simulation on random features, mapped from one file as those of real images are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedclip_plugin.data import ImageSet
from fedclip_plugin.data.clients import Client, Clients
from fedclip_plugin.features import FeatureSet, TextFeatures, prompts_of
from fedclip_plugin.features.mapped_features import MappedFeatures
from fedclip_plugin.methods import AdapterInputs

if TYPE_CHECKING:
    from fedclip_plugin.backbone.clip import FrozenClip
    from fedclip_plugin.federated.simulation.preparation import SimulationInputs

WIDTH, CLASSES, LOGIT_SCALE = 512, 100, 100.0
_PROMPT = "a picture of a {}"
_BLOCK = 20_000


@dataclass(frozen=True)
class Population:
    """How many clients there are, and how many images each has, split 60/20/20."""

    clients: int
    images: int

    def make(self, folder: Path) -> str:
        """Write the features of all images, and return the name of their file; images of a class are near its text."""
        rng, text = torch.Generator().manual_seed(1), _text()
        count = self.clients * self.images
        rows = torch.empty(count, WIDTH)
        for start in range(0, count, _BLOCK):
            labels = torch.from_numpy(self.labels()[start : start + _BLOCK])
            rows[start : start + _BLOCK] = text[labels] + 0.1 * torch.randn(len(labels), WIDTH, generator=rng)
        return MappedFeatures(folder).write(FeatureSet(rows, torch.from_numpy(self.labels())))

    def labels(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the class of each image."""
        return np.random.default_rng(0).integers(0, CLASSES, self.clients * self.images)

    def members(self, folder: Path) -> Clients:
        """Return who has which images."""
        labels, names = self.labels(), _class_names()
        images = ImageSet("random", folder, names, tuple(map(str, range(len(labels)))), labels)
        order = np.random.default_rng(1).permutation(len(labels)).reshape(self.clients, self.images)
        members = (Client(f"client_{index}", "random", 0, np.sort(own)) for index, own in enumerate(order))
        return Clients((images,), tuple(members))

    def frozen(self) -> AdapterInputs:
        """Return what adapters are built on."""
        return AdapterInputs(TextFeatures(_text(), LOGIT_SCALE), prompts_of(_class_names(), _PROMPT), _no_backbone)

    def inputs(self, folder: Path, name: str, method: str = "fedclip") -> SimulationInputs:
        """Return what a rank holds when the features are made."""
        # Flower's processes make no ranks, and have no FedML
        from fedclip_plugin.federated.roles.task import Task
        from fedclip_plugin.federated.simulation.client_data import ClientData
        from fedclip_plugin.federated.simulation.preparation import SimulationInputs

        clients, frozen = self.members(folder), self.frozen()
        splits, features = clients.splits(0), MappedFeatures(folder).read(name, self.labels())
        task = Task(method, "random", "0" * 64, "fp32", _class_names(), _PROMPT, frozen.text, "0" * 16)
        data = ClientData(clients, splits, [features], [features])
        return SimulationInputs(task, frozen, data, None, None, tuple(own.sizes() for own in splits))


def _class_names() -> tuple[str, ...]:
    return tuple(f"class_{index:03d}" for index in range(CLASSES))


def _text() -> torch.Tensor:
    drawn = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(drawn, dim=-1)


def _no_backbone() -> FrozenClip:
    raise RuntimeError("random features have no backbone")
