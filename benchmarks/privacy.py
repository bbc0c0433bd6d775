"""A DP-SGD step beside a plain one, at batch 256 and ViT-B/32's width: milliseconds of one processor core."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.synthetic import Work, prepared
from benchmarks.setup.workload import Scale
from fedclip_plugin.features import FeatureSet, TextFeatures
from fedclip_plugin.federated.privacy.dp_sgd import train_privately
from fedclip_plugin.federated.privacy.privacy_settings import PrivacySettings
from fedclip_plugin.federated.privacy.silo_privacy import SiloPrivacy
from fedclip_plugin.federated.roles.adam import Adam
from fedclip_plugin.federated.roles.trainer import batches, shuffler
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.methods import METHODS, Adapter, Method, create_adapter
from fedclip_plugin.methods.regularisers import Regularisers

TITLE = "privacy: a DP-SGD step beside a plain one of the same loss, batch 256"
GOAL = 1.5
_BATCH = 256
_RATE, _DECAY = 5e-5, 0.2
_LOSS = Regularisers(class_cross_entropy=True)


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures: both kinds of epochs take turns, so that both see the same load."""
    silo = prepared(1, Work((scale.private_images,), 1, 64 if scale.small_backbone else 512))
    assert silo.splits is not None and isinstance(silo.splits.train, FeatureSet), "a silo has features"
    data, figures = silo.splits.train, list[Figure]()
    place = work / "privacy" / "privacy.json"
    text = data.text_beside(silo.task.text)
    for method in METHODS.data.values():
        if not isinstance(method, Method) or not method.image_gradients:
            continue
        adapters = [create_adapter(method.name, silo.frozen, 0) for _ in range(2)]
        place.unlink(missing_ok=True)
        privacy = SiloPrivacy(PrivacySettings(None, 1.0), place, len(data), _BATCH, 1, 1)
        privacy.begin(0)
        plain, private = list[float](), list[float]()
        with torch_threads(1):
            for number in range(scale.private_epochs):
                plain.append(_plain(adapters[0], data, text, number))
                private.append(_private(adapters[1], data, text, privacy))
        figures += [
            of_samples(f"{method.name}, plain", plain[1:], "ms"),
            of_samples(f"{method.name}, private", private[1:], "ms"),
            Figure(
                f"{method.name}, private by plain",
                median(private[1:]) / median(plain[1:]),
                "x",
                at_most=GOAL,
                note=f"{sum(own.numel() for own in adapters[0].parameters()):,} parameters",
            ),
        ]
    return figures


def _plain(adapter: Adapter, data: FeatureSet, text: TextFeatures, number: int) -> float:
    """Return the milliseconds that a core works for a step, over an epoch."""
    optimizer, steps = Adam(list(adapter.parameters()), _RATE, _DECAY), 0
    began = time.process_time()
    for batch in batches(data, _BATCH, 1, shuffler(0, 0, number)):
        _LOSS.loss(adapter, batch.inputs, batch.labels, text).backward()
        optimizer.step()
        steps += 1
    return 1000 * (time.process_time() - began) / steps


def _private(adapter: Adapter, data: FeatureSet, text: TextFeatures, privacy: SiloPrivacy) -> float:
    optimizer = Adam(list(adapter.parameters()), _RATE, _DECAY)
    began = time.process_time()
    train_privately(adapter, data, text, privacy, 1, _LOSS, optimizer, lambda: None)
    return 1000 * (time.process_time() - began) / privacy.mechanism.steps
