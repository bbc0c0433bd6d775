"""A silo's side of the pair: train the adapter on cached features, exactly as the reference does."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from fedml.core import ClientTrainer
from torch import Tensor, nn

from fedclip_plugin.adapters import contrastive_loss
from fedclip_plugin.features import FeatureSet, SiloFeatures
from fedclip_plugin.federated.noise import secret_noise
from fedclip_plugin.federated.task import Task

SHUFFLE = 1
ADAM_BETAS = (0.9, 0.98)
ADAM_EPSILON = 1e-6


class FedClipTrainer(ClientTrainer):
    """Trains the adapter of one silo; knows nothing of how updates travel.

    The optimiser is the reference's (microsoft/PersonalizedFL, ``fedclip/``): Adam with coupled weight decay, made
    afresh every round; batches of ``batch_size``, a last batch of a single image left out.

    Parameters
    ----------
    model
        The adapter.
    args
        FedML's arguments; ``learning_rate``, ``weight_decay``, ``batch_size``, ``epochs`` and ``random_seed`` are used.
    task
        Classes, text features, backbone.
    silo
        Name of the silo, for messages.
    """

    def __init__(self, model: nn.Module, args: Any, task: Task, silo: str) -> None:
        super().__init__(model, args)
        self.task = task
        self.silo = silo
        self.train_loss = float("nan")

    def get_model_params(self) -> OrderedDict[str, Tensor]:
        """Return the adapter's parameters on the CPU (an OrderedDict: FedML takes a dict for one model per client)."""
        return OrderedDict((name, tensor.detach().cpu()) for name, tensor in self.model.state_dict().items())

    def set_model_params(self, model_parameters: OrderedDict[str, Tensor]) -> None:
        """Load parameters into the adapter."""
        self.model.load_state_dict(model_parameters)

    def train(self, train_data: SiloFeatures, device: torch.device, args: Any) -> None:
        """Train for ``args.epochs`` epochs on the silo's train split.

        Parameters
        ----------
        train_data
            The silo's splits; features ``[N, d]``.
        device
            Where adapter and features are.
        args
            FedML's arguments, with ``round_idx``.
        """
        data = train_data.train
        rng = np.random.default_rng([args.random_seed, self.id, args.round_idx, SHUFFLE])
        text = self.task.text.features.to(data.features)
        optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=args.learning_rate,
            betas=ADAM_BETAS,
            eps=ADAM_EPSILON,
            weight_decay=args.weight_decay,
            fused=True,
        )
        total, seen = torch.zeros((), device=device), 0
        for batch in batches(data, args.batch_size, args.epochs, rng):
            loss = contrastive_loss(self.model(batch.features), text, batch.labels, self.task.text.logit_scale)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, seen = total + loss.detach() * len(batch), seen + len(batch)
        self.train_loss = float(total) / seen if seen else float("nan")

    def on_after_local_training(self, train_data: SiloFeatures, device: torch.device, args: Any) -> None:
        """Let FedML add local differential privacy, with noise of the silo's own."""
        with secret_noise():
            super().on_after_local_training(train_data, device, args)

    def test(self, test_data: FeatureSet, device: torch.device, args: Any) -> dict[str, float]:
        """Return FedML's usual figures for ``test_data``: ``test_correct``, ``test_total`` and ``test_loss``.

        Parameters
        ----------
        test_data
            Features ``[N, d]`` and labels.
        device, args
            Unused; FedML passes them.
        """
        score = self.task.score(self.model, test_data)
        with torch.no_grad():
            text = self.task.text.features.to(test_data.features)
            logits = self.task.text.logit_scale * self.model(test_data.features) @ text.T
            loss = nn.functional.cross_entropy(logits, test_data.labels, reduction="sum")
        return {"test_correct": score.correct, "test_total": score.count, "test_loss": float(loss)}


def batches(data: FeatureSet, size: int, epochs: int, rng: np.random.Generator) -> Iterator[FeatureSet]:
    """Yield shuffled batches of ``size`` images; a last batch of one image is left out, as the reference does.

    Parameters
    ----------
    data
        N labelled features.
    size
        Images in a batch.
    epochs
        Passes over the data, each in an order of its own.
    rng
        Source of the orders: one ``permutation(N)`` an epoch.
    """
    for _ in range(epochs):
        order = rng.permutation(len(data))
        shuffled = data.select(order)
        for start in range(0, len(data), size):
            batch = FeatureSet(shuffled.features[start : start + size], shuffled.labels[start : start + size])
            if len(batch) > 1:
                yield batch
