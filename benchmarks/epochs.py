"""An epoch that encodes again, as the reference does, against an epoch over cached features."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch

from benchmarks.reference import EpochSettings, reference_epoch
from benchmarks.setup.encode_subject import Subject, timed
from benchmarks.setup.ratios import Figure, of_samples
from fedclip_plugin.features import FeatureSet, SiloFeatures, TextFeatures
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.methods import Adapter, AttentionGate

ROUNDS = 200
TEMPLATE = "a picture of a {}"
SETTINGS = EpochSettings(batch_size=32, learning_rate=5e-5, weight_decay=0.2)
_CACHED_EPOCHS = 5
_WARMING_IMAGES = 8


def compare_epochs(subject: Subject, repeats: int, goal: float | None = None) -> list[Figure]:
    """Compare an epoch of the reference algorithm with an epoch over cached features.

    Decoding is left out of the reference's epoch, and so are its evaluations, which encode again as well: the ratio is
    a lower bound. Encoding once includes decoding.

    Parameters
    ----------
    subject
        Backbone and images.
    repeats
        Epochs of the reference.
    goal
        Least ratio over 200 rounds.
    """
    warm_up(subject)
    labels = torch.from_numpy(subject.images.labels)
    prompts = [TEMPLATE.format(name) for name in subject.images.classes]
    pixels, adapter = subject.pixels(), _adapter(subject)
    again, _ = timed(lambda: reference_epoch(subject.clip, adapter, pixels, labels, prompts, SETTINGS), repeats)
    once: dict[str, float] = {}
    for precision in subject.precisions():
        with subject.computing_in(precision):
            seconds, features = timed(subject.encode, 1)
        once[precision] = seconds[0]
    train = cached_epoch(subject, FeatureSet(torch.from_numpy(features), labels).to(subject.device), prompts)
    train()
    cached, _ = timed(train, _CACHED_EPOCHS)
    return ratios(f"{subject.name}, {len(labels)} images", once, again, cached, goal)


def ratios(
    name: str, once: Mapping[str, float], again: Sequence[float], cached: Sequence[float], goal: float | None
) -> list[Figure]:
    """Return the figures of one backbone.

    Parameters
    ----------
    name
        Backbone and images.
    once
        Precision to seconds of encoding all files once.
    again
        Seconds of each re-encoding epoch.
    cached
        Seconds of each epoch over cached features.
    goal
        Least ratio over 200 rounds, in the last precision of ``once``.
    """
    figures = [
        of_samples(
            f"{name}: re-encoding epoch", again, "s", note="fp32; images and prompts of every batch; no decoding"
        ),
        of_samples(f"{name}: cached epoch", [1000 * seconds for seconds in cached], "ms"),
        Figure(f"{name}: re-encoding / cached epoch", median(again) / median(cached), "x", len(again)),
    ]
    for precision, seconds in once.items():
        total = ROUNDS * median(again) / (seconds + ROUNDS * median(cached))
        note = f"EXTRAPOLATED from {len(again)} re-encoding and {len(cached)} cached epochs"
        aim = goal if precision == list(once)[-1] else None
        figures += [
            Figure(f"{name}: encode once, {precision}", seconds, "s", note="decoding included"),
            Figure(f"{name}: {ROUNDS} rounds, {precision}", total, "x", len(again), at_least=aim, note=note),
        ]
    return figures


def warm_up(subject: Subject) -> None:
    """Run everything once on a few images, so that threads, allocators and files are warm."""
    few = subject.first(_WARMING_IMAGES)
    prompts = [TEMPLATE.format(name) for name in few.images.classes]
    labels = torch.from_numpy(few.images.labels)
    reference_epoch(few.clip, _adapter(few), few.pixels(), labels, prompts, SETTINGS)
    for precision in few.precisions():
        with few.computing_in(precision):
            few.encode()


def cached_epoch(subject: Subject, data: FeatureSet, prompts: Sequence[str]) -> Callable[[], None]:
    """Return the product's own training of one round on features."""
    text = TextFeatures(subject.clip.encode_prompts(prompts), subject.clip.logit_scale)
    task = Task("fedclip", subject.name, "", "fp32", subject.images.classes, TEMPLATE, text, "")
    args = Namespace(
        learning_rate=SETTINGS.learning_rate,
        weight_decay=SETTINGS.weight_decay,
        batch_size=SETTINGS.batch_size,
        proximal_mu=0.0,
        epochs=1,
        random_seed=0,
        round_idx=0,
    )
    trainer = FedClipTrainer(_adapter(subject), args, task, "silo")
    trainer.set_id(0)
    splits = SiloFeatures(data, data, data)
    return lambda: trainer.train(splits, subject.device, args)


def _adapter(subject: Subject) -> Adapter:
    return AttentionGate(subject.clip.feature_dim, torch.Generator().manual_seed(0)).to(subject.device)
