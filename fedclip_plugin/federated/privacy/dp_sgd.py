"""DP-SGD (Abadi et al. 2016, arXiv 1607.00133, algorithm 1) on cached features, with the federation's own optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from fedclip_plugin.features import TextFeatures
from fedclip_plugin.features.feature_set import Batch, InputSet
from fedclip_plugin.federated.privacy.secret_random import SecretRandom
from fedclip_plugin.federated.privacy.silo_privacy import SiloPrivacy
from fedclip_plugin.federated.roles.adam import Adam
from fedclip_plugin.methods import Adapter
from fedclip_plugin.methods.image_gradients import clipped_sum
from fedclip_plugin.methods.regularisers import Regularisers, text_distance


def train_privately(
    adapter: Adapter,
    data: InputSet,
    text: TextFeatures,
    privacy: SiloPrivacy,
    epochs: int,
    regularisers: Regularisers,
    optimizer: Adam,
    pull: Callable[[], None],
) -> None:
    """Train for one round, which the privacy has counted.

    Each step takes a Poisson sample of the images, clips each image's gradient, adds noise to the sum, and divides by
    the expected number of images. What depends on no image, such as ``pull``, which adds to the gradients, comes after
    the noise. The samples are as secret as the noise: the account rests on that.
    """
    random, mechanism, settings = privacy.random(), privacy.mechanism, privacy.settings
    deviation = mechanism.noise_multiplier * settings.clip
    for batch in poisson_batches(data, mechanism.rate, mechanism.steps, epochs, random):
        found = clipped_sum(
            adapter, batch.inputs, batch.labels, text, settings.clip, regularisers.zero_shot_distillation
        )
        set_noisy_gradients(optimizer.parameters, found.gradients, deviation, privacy.expected, random)
        if regularisers.text_pull:
            (regularisers.text_pull * text_distance(adapter.class_features(text), text.features)).backward()
        pull()
        optimizer.step()


def poisson_batches(data: InputSet, rate: float, steps: int, epochs: int, random: SecretRandom) -> Iterator[Batch]:
    """Yield Poisson samples, which may be empty; of each image itself or one view of it, drawn anew for each epoch."""
    views: np.random.Generator = random.generator()
    seen = data
    for step in range(steps):
        if step % (steps // epochs) == 0:
            seen = data.sample_views(views)
        chosen = torch.arange(len(data)) if rate >= 1 else random.sample(len(data), rate)
        yield seen.batch(chosen.to(seen.labels.device))


def set_noisy_gradients(
    parameters: list[nn.Parameter], sums: list[Tensor], deviation: float, expected: float, random: SecretRandom
) -> None:
    """Give each parameter its sum, which changes, with noise of a standard ``deviation`` and by ``expected`` images."""
    for parameter, own in zip(parameters, sums, strict=True):
        parameter.grad = random.add_normal(own, deviation, 1 / expected)
