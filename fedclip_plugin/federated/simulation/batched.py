"""Many clients trained at once: one kernel computes a step of all of them, which keeps a GPU busy."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from fedclip_plugin.features import InputSet, TextFeatures
from fedclip_plugin.features.feature_set import Batch
from fedclip_plugin.federated.roles.adam import Adam
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.trainer import batches, shuffler
from fedclip_plugin.methods import Adapter
from fedclip_plugin.methods.losses import PADDING
from fedclip_plugin.methods.regularisers import Regularisers

_COPIES = 8
"""Of the trained parameters, for each client at once: they, gradients, two moments, the anchor, and what passes."""


class TrainedTogether(NamedTuple):
    """What came of K clients."""

    parameters: Mapping[str, Tensor]  # by name, ``[K, ...]``, on the device
    losses: list[float]  # of each client, the mean of its training


def can_batch(adapter: Adapter) -> bool:
    """Return whether clients of a method can be trained at once: it says so, and its own loss knows padding."""
    return adapter.batches_clients and "padded" in inspect.signature(type(adapter).loss).parameters


def clients_at_once(adapter: Adapter, device: torch.device) -> int:
    """Return how many clients to train at once: those that take half of the free memory of a GPU; on a CPU 16."""
    size = sum(parameter.nbytes for parameter in adapter.parameters() if parameter.requires_grad)
    if device.type != "cuda":
        return 16
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(free // 2 // (_COPIES * max(size, 1))))


class _Loss(nn.Module):
    """A method's loss with the recipe's terms; :func:`torch.func.functional_call` gives it other parameters."""

    def __init__(self, adapter: Adapter, text: TextFeatures, regularisers: Regularisers) -> None:
        super().__init__()
        self.adapter, self.text, self.regularisers = adapter, text, regularisers

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a padded batch."""
        return self.regularisers.loss(self.adapter, inputs, labels, self.text, padded=True)


def train_together(
    adapter: Adapter,
    held: Mapping[str, Tensor],
    clients: Sequence[int],
    data: Sequence[InputSet],
    text: TextFeatures,
    settings: TrainingSettings,
    number: int,
) -> TrainedTogether:
    """Train clients from the same parameters, each on its own images, in the batches that it would have alone.

    Every step is one call for all clients that still have one; short batches are padded, and who is done waits. The
    result is that of training one after the other, up to the rounding of matrix products over batches (tests: 1e-6).

    Parameters
    ----------
    adapter
        The method's module; its parameters are not changed.
    held
        The parameters that all start from.
    clients, data
        K clients, and what each trains on, on one device.
    text
        Text features beside the data.
    number
        The round, which the shuffling depends on.
    """
    epochs = [list(_batches(own, client, settings, number)) for client, own in zip(clients, data, strict=True)]
    order = sorted(range(len(clients)), key=lambda index: -len(epochs[index]))  # who is done is behind
    device = data[0].labels.device
    loss = _Loss(adapter, text, settings.regularisers)
    stacked = {
        f"adapter.{name}": nn.Parameter(tensor.to(device).expand(len(clients), *tensor.shape).clone())
        for name, tensor in held.items()
    }
    fixed = {f"adapter.{name}": own.detach() for name, own in adapter.named_parameters() if name not in held}
    fixed |= {f"adapter.{name}": own for name, own in adapter.named_buffers()}

    def _of_one(parameters: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        result: Tensor = functional_call(loss, parameters | fixed, (inputs, labels))
        return result

    step = vmap(grad_and_value(_of_one), randomness="error")
    optimizer = Adam(list(stacked.values()), settings.learning_rate, settings.weight_decay)
    total = torch.zeros(len(clients), device=device)
    seen = torch.zeros(len(clients), device=device)
    for turn in range(max(map(len, epochs))):
        active = [index for index in order if turn < len(epochs[index])]
        inputs, labels, sizes = _stack([epochs[index][turn] for index in active])
        now = {name: own.detach()[: len(active)] for name, own in stacked.items()}
        gradients, values = step(now, inputs, labels)
        if settings.proximal_mu:
            for name, own in now.items():
                gradients[name] = gradients[name] + settings.proximal_mu * (own - held[name[8:]].to(device))
        optimizer.step_first(len(active), [gradients[name] for name in stacked])
        total[: len(active)] += values * sizes
        seen[: len(active)] += sizes
    back = torch.tensor(np.argsort(order), device=device)
    losses = (total / seen)[back].tolist()
    return TrainedTogether({name[8:]: own.detach()[back] for name, own in stacked.items()}, losses)


def _batches(data: InputSet, client: int, settings: TrainingSettings, number: int) -> Sequence[Batch]:
    rng = shuffler(settings.random_seed, client, number)
    return list(batches(data, settings.batch_size, settings.epochs, rng))


def _stack(parts: Sequence[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs ``[K, B, ...]`` and labels ``[K, B]`` of batches of different sizes, and the sizes ``[K]``."""
    most = max(len(part.labels) for part in parts)
    inputs = torch.stack([_padded(part.inputs, most, 0) for part in parts])
    labels = torch.stack([_padded(part.labels, most, PADDING) for part in parts])
    sizes = torch.tensor([len(part.labels) for part in parts], device=labels.device)
    return inputs, labels, sizes


def _padded(tensor: Tensor, most: int, value: int) -> Tensor:
    if len(tensor) == most:
        return tensor
    return torch.cat([tensor, tensor.new_full((most - len(tensor), *tensor.shape[1:]), value)])
