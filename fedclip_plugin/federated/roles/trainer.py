"""The trainer: train the adapter on what the silo holds, exactly as the reference does."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from fedml.core import ClientTrainer
from torch import Tensor, nn

from fedclip_plugin.features import InputSet, SiloFeatures
from fedclip_plugin.features.feature_set import Batch, FeatureSet
from fedclip_plugin.federated.privacy.dp_sgd import train_privately
from fedclip_plugin.federated.privacy.noisy_sums import SumNoise
from fedclip_plugin.federated.privacy.silo_privacy import SiloPrivacy
from fedclip_plugin.federated.roles.adam import Adam
from fedclip_plugin.federated.roles.choice import Chosen, personal
from fedclip_plugin.federated.roles.class_scorer import ClassScorer
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.task import Answers, Task
from fedclip_plugin.methods import Adapter, load_parameters, parameters_of
from fedclip_plugin.methods.closed_form.adapters import ClosedForm
from fedclip_plugin.methods.closed_form.feature_sums import Statistics, small_classes
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.text import told

logger = logging.getLogger(__name__)

RIGHT = "right"
"""What an interpolation's number of right answers travels as, int64 ``[A]`` for A shares."""

SHUFFLE, PERSONAL = 1, 3
"""What a random generator is for, beside seed, silo and round (2 samples silos)."""


class FedClipTrainer(ClientTrainer):
    """Trains the adapter of one silo; knows nothing of how updates travel.

    The optimiser is the reference's (microsoft/PersonalizedFL, ``fedclip/``): Adam with coupled weight decay, made
    afresh every round; batches of ``batch_size``, a last batch of a single image left out. FedProx adds
    ``mu / 2 ||w - w_global||^2`` to the loss (Li et al. 2020, arXiv 1812.06127, equation 2); the terms of
    :class:`~fedclip_plugin.methods.regularisers.Regularisers` come on top, where the recipe has them. With ``privacy``
    batches are Poisson samples, and every gradient and every sum that leaves is a noisy one.

    Attributes
    ----------
    own_rounds
        In a run that goes on, the last complete round that the silo was not left out of; None where that is the last.
    """

    model: Adapter

    def __init__(
        self,
        model: Adapter,
        args: Any,
        settings: TrainingSettings,
        task: Task,
        silo: str,
        folder: RunFolder,
        zero_shot: Mapping[str, Answers] | None = None,
        class_scorer: ClassScorer | None = None,
        privacy: SiloPrivacy | None = None,
    ) -> None:
        super().__init__(model, args)
        assert (privacy is None) == (settings.privacy is None), "what a recipe asks for is not left out"
        self.class_scorer, self.privacy = class_scorer, privacy
        self.settings, self.task, self.silo, self.folder = settings, task, silo, folder
        self.zero_shot = dict(zero_shot or {})
        self.own_rounds: int | None = None
        self.train_loss = float("nan")
        self._start = {name: own.clone() for name, own in parameters_of(model).items()} if settings.wise else {}

    def sums(self, data: InputSet) -> Statistics:
        """Return what a silo says of its images where its method is solved, not trained.

        Classes of fewer than ``min_class_count`` images are left out, and the log says which.
        """
        assert isinstance(self.model, ClosedForm) and isinstance(data, FeatureSet), "asked of those methods only"
        least, names = self.settings.min_class_count, self.task.classes
        small = small_classes(data.labels, len(names), least)
        single = ", ".join(map(told, (names[label] for label in small_classes(data.labels, len(names), 2))))
        if single and least == 1 and self.privacy is None:
            rule = "fedclip_args.min_class_count: 2 keeps it"
            logger.warning("%s sends the sum of a single image, its feature, of %s: %s", told(self.silo), single, rule)
        if small:
            left, rule = ", ".join(told(names[label]) for label in small), "fedclip_args.min_class_count"
            logger.warning("%s sends nothing of %s: fewer than %d images (%s)", told(self.silo), left, least, rule)
        found = Statistics.of(data, len(names), self.model.needs_gram, small)
        if self.privacy is None:
            return found
        self.privacy.spend()
        noise = SumNoise.of(self.privacy.mechanism.noise_multiplier, self.model.needs_gram)
        return noise.added(found, self.privacy.random())

    def personalize_by_sums(self, splits: SiloFeatures, others: Statistics, chosen: Chosen) -> None:
        """Solve the adapter for the silo alone, from its own sums and a share of those of the others."""
        assert isinstance(self.model, ClosedForm) and isinstance(splits.train, FeatureSet), (
            "asked of those methods only"
        )
        own = Statistics.of(splits.train, len(self.task.classes), self.model.needs_gram)
        found = personal(type(self.model), self.task.text, own, others, splits.validation, chosen)
        self.set_model_params(found)

    def get_model_params(self) -> OrderedDict[str, Tensor]:
        """Return the adapter's parameters on the CPU."""
        return parameters_of(self.model)

    def set_model_params(self, model_parameters: Mapping[str, Tensor]) -> None:
        """Load parameters into the adapter."""
        load_parameters(self.model, model_parameters)

    def train(self, train_data: SiloFeatures, device: torch.device, args: Any) -> None:
        """Train for ``epochs`` epochs on the silo's train split; ``args`` has FedML's ``round_idx``.

        With ``privacy`` the loss, which is of the images, is not told.
        """
        if self.privacy is not None:
            self.train_loss = float("nan")
            self._fit_privately(train_data.train, self.privacy)
            return
        rng = shuffler(self.settings.random_seed, self.id, args.round_idx)
        self.train_loss = self._fit(train_data.train, self.settings.epochs, rng, self.settings.proximal_mu)

    def interpolations(self) -> Iterator[None]:
        """Load every interpolation between the start and the parameters that are there, in turn (``wise``)."""
        trained = OrderedDict((name, own.clone()) for name, own in self.get_model_params().items())
        for share in self.settings.wise:
            self.set_model_params(self.model.interpolate(self._start, trained, share))
            yield
        self.set_model_params(trained)

    def try_interpolations(self, validation: InputSet) -> OrderedDict[str, Tensor]:
        """Return how many validation images each interpolation labels rightly, as it travels."""
        right = [self.task.score(self.model, validation).correct for _ in self.interpolations()]
        return OrderedDict({RIGHT: torch.tensor(right)})

    def personalize(self, train_data: SiloFeatures) -> None:
        """Fine-tune the adapter for the silo alone, ``personal_epochs`` epochs on its train split."""
        rng = np.random.default_rng([self.settings.random_seed, self.id, self.settings.comm_round, PERSONAL])
        self._fit(train_data.train, self.settings.personal_epochs, rng, proximal_mu=0.0)

    def test(self, test_data: InputSet, device: torch.device, args: Any) -> dict[str, float]:
        """Return FedML's usual figures for ``test_data``: ``test_correct``, ``test_total`` and ``test_loss``."""
        score, text = self.task.score(self.model, test_data), test_data.text_beside(self.task.text)
        with torch.no_grad():
            losses = [
                nn.functional.cross_entropy(self.model.logits(part.inputs, text), part.labels, reduction="sum")
                for part in test_data.chunks()
            ]
        return {"test_correct": score.correct, "test_total": score.count, "test_loss": float(sum(losses))}

    def _fit_privately(self, data: InputSet, privacy: SiloPrivacy) -> None:
        privacy.spend()
        parameters, settings = [own for own in self.model.parameters() if own.requires_grad], self.settings
        anchors = [parameter.detach().clone() for parameter in parameters] if settings.proximal_mu else []
        optimizer = Adam(parameters, settings.learning_rate, settings.weight_decay)
        train_privately(
            self.model,
            data,
            data.text_beside(self.task.text),
            privacy,
            settings.epochs,
            settings.regularisers,
            optimizer,
            lambda: _pull(parameters, anchors, settings.proximal_mu) if anchors else None,
        )

    def _fit(self, data: InputSet, epochs: int, rng: np.random.Generator, proximal_mu: float) -> float:
        """Train and return the mean loss; a method without parameters has a loss all the same."""
        text = data.text_beside(self.task.text)
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        anchors = [parameter.detach().clone() for parameter in parameters] if proximal_mu else []
        optimizer = Adam(parameters, self.settings.learning_rate, self.settings.weight_decay)
        total, seen = torch.zeros((), device=data.labels.device), 0
        for batch in batches(data, self.settings.batch_size, epochs, rng):
            loss = self.settings.regularisers.loss(self.model, batch.inputs, batch.labels, text)
            if parameters:
                loss.backward()
                if proximal_mu:
                    _pull(parameters, anchors, proximal_mu)
                optimizer.step()
            total, seen = total + loss.detach() * len(batch.labels), seen + len(batch.labels)
        return float(total) / seen if seen else float("nan")


def _pull(parameters: list[nn.Parameter], anchors: list[Tensor], mu: float) -> None:
    """Add the gradient of FedProx's proximal term, ``mu (w - w_global)``."""
    for parameter, anchor in zip(parameters, anchors, strict=True):
        assert parameter.grad is not None, "every trained parameter takes part in the loss"
        parameter.grad.add_(parameter.detach() - anchor, alpha=mu)


def shuffler(seed: int, silo: int, number: int) -> np.random.Generator:
    """Return what draws the batches of a silo, or client, in round ``number``."""
    return np.random.default_rng([seed, silo, number, SHUFFLE])


def batches(data: InputSet, size: int, epochs: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield shuffled batches of ``size`` images; a last batch of one image is left out, as the reference does.

    ``rng`` draws one ``permutation(N)`` an epoch, then one view of each image where there are views.
    """
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(len(data))).to(data.labels.device)
        seen = data.sample_views(rng)
        for start in range(0, len(data) - 1, size):
            yield seen.batch(order[start : start + size])
