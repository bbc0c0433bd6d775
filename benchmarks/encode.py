"""Encode once against encoding again in every epoch, encoding files against the pure forward pass, and loading them."""

from __future__ import annotations

import gc
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.loading import compare_loading, compare_on_gpu
from benchmarks.random_clip import random_clip
from benchmarks.reference import reference_epoch
from benchmarks.setup.mpi_jobs import RANKS
from benchmarks.setup.random_images import write_jpegs
from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.workload import Scale
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.precision import candidate, computing_in
from fedclip_plugin.data import ImageSet, open_rgb
from fedclip_plugin.features import FeatureSet, SiloFeatures, TextFeatures
from fedclip_plugin.features.encoding import encode_files
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.methods import Adapter, AdapterInputs
from fedclip_plugin.methods.attention_gate import AttentionGate
from fedclip_plugin.ranks import threads_per_rank
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder

TITLE = "encode: once against in every epoch (a rank's threads); files against the forward pass (all threads)"
GOAL = 283.0
ROUNDS = 200
RECIPE = find_recipe("pacs/vit_b32_fedclip")
TEMPLATE = "a picture of a {}"
_CACHED_EPOCHS = 5
_WARMING_IMAGES = 8
_THROUGHPUT_GOALS = {"cpu": 0.9, "cuda": 0.8}
BATCH, WORKERS = 64, 2
Result = TypeVar("Result")


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures: clip-tiny first, then a random-weight ViT-B/32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    most = max(scale.tiny_images, scale.large_images, scale.throughput_images)
    images = write_jpegs(work / "jpegs", max(most, scale.gpu_images) if device.type == "cuda" else most)
    tiny = Subject("clip-tiny", FrozenClip(locate_backbone(BUILT_IN), device), images, device)
    name = "small CLIP" if scale.small_backbone else "ViT-B/32"
    large = Subject(name, FrozenClip(random_clip(work, scale.small_backbone), device), images, device)
    with torch_threads(threads_per_rank(RANKS)):
        figures = compare_epochs(tiny.first(scale.tiny_images), scale.passes)
        figures += compare_epochs(large.first(scale.large_images), 1, None if scale.small_backbone else GOAL)
    figures += compare_throughput(large.first(scale.throughput_images), scale.passes)
    with torch_threads(1):
        figures += compare_loading(images.paths()[: scale.throughput_images], scale.passes)
    if device.type == "cuda":
        figures += compare_on_gpu(large.clip, images.paths(), scale.passes)
    return figures


@dataclass(frozen=True)
class Subject:
    """What is measured: a backbone, in float32 between measurements, and image files."""

    name: str
    clip: FrozenClip
    images: ImageSet
    device: torch.device

    def precisions(self) -> list[str]:
        """Return float32, and what ``auto`` would try on this device if that is another."""
        return list(dict.fromkeys(("fp32", candidate(self.device))))

    def first(self, count: int) -> Subject:
        """Return the same with the first ``count`` images only."""
        return replace(self, images=self.images.subset(np.arange(min(count, len(self.images)))))

    def labels(self) -> Tensor:
        """Return the images' labels ``[N]``."""
        return torch.from_numpy(self.images.labels)

    def prompts(self) -> list[str]:
        """Return a prompt for every class."""
        return [TEMPLATE.format(name) for name in self.images.classes]

    def pixels(self) -> Tensor:
        """Return the images as CLIP sees them, ``[N, 3, S, S]``."""
        return torch.from_numpy(np.stack([self.clip.preprocess(open_rgb(path)) for path in self.images.paths()]))

    def encode(self) -> npt.NDArray[np.float32]:
        """Encode all files as the product does, and return their features ``[N, d]``."""
        features, faults = encode_files(self.clip, self.images.paths(), BATCH, WORKERS)
        if faults:
            raise faults[0]
        return np.stack([features[index] for index in range(len(self.images))])


def timed(act: Callable[[], Result], repeats: int) -> tuple[list[float], Result]:
    """Return seconds of each of ``repeats`` calls (1 or more), and what the last one returned."""
    seconds: list[float] = []
    results: list[Result] = []
    for _ in range(repeats):
        gc.collect()
        began = time.perf_counter()
        results = [act()]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds, results[0]


def compare_epochs(subject: Subject, repeats: int, goal: float | None = None) -> list[Figure]:
    """Compare an epoch of the reference algorithm with an epoch over cached features.

    Decoding is left out of the reference's epoch, and so are its evaluations, which encode again as well: the ratio is
    a lower bound. Encoding once includes decoding. The goal is the least ratio over 200 rounds.
    """
    warm_up(subject)
    pixels, labels, prompts = subject.pixels(), subject.labels(), subject.prompts()
    adapter, settings = _adapter(subject), _settings()
    again, _ = timed(lambda: reference_epoch(subject.clip, adapter, pixels, labels, prompts, settings), repeats)
    once: dict[str, float] = {}
    for precision in subject.precisions():
        with computing_in(subject.clip, precision):
            seconds, features = timed(subject.encode, 1)
        once[precision] = seconds[0]
    train = cached_epoch(subject, FeatureSet(torch.from_numpy(features), labels).to(subject.device))
    train()
    cached, _ = timed(train, _CACHED_EPOCHS)
    return ratios(f"{subject.name}, {len(labels)} images", once, again, cached, goal)


def ratios(
    name: str, once: Mapping[str, float], again: Sequence[float], cached: Sequence[float], goal: float | None
) -> list[Figure]:
    """Return the figures of one backbone, from seconds of encoding all files once and of epochs.

    ``once`` is by precision; the goal, the least ratio over 200 rounds, is for the last one.
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
    reference_epoch(few.clip, _adapter(few), few.pixels(), few.labels(), few.prompts(), _settings())
    for precision in few.precisions():
        with computing_in(few.clip, precision):
            few.encode()


def cached_epoch(subject: Subject, data: FeatureSet) -> Callable[[], None]:
    """Return the product's own training of one round on features."""
    text = TextFeatures(subject.clip.encode_prompts(subject.prompts()), subject.clip.logit_scale)
    task = Task("fedclip", subject.name, "", "fp32", subject.images.classes, TEMPLATE, text, "")
    args = Namespace(round_idx=0)
    trainer = FedClipTrainer(_adapter(subject), args, _settings(), task, "silo", RunFolder(Path("unused")))
    trainer.set_id(0)
    splits = SiloFeatures(data, data, data)
    return lambda: trainer.train(splits, subject.device, args)


def _settings() -> TrainingSettings:
    return replace(TrainingSettings.of(load_recipe(RECIPE)), batch_size=32, learning_rate=5e-5, weight_decay=0.2)


def _adapter(subject: Subject) -> Adapter:
    text = TextFeatures(torch.empty(0, subject.clip.feature_dim), subject.clip.logit_scale)
    frozen = AdapterInputs(text, (), lambda: subject.clip)
    return AttentionGate(frozen, torch.Generator().manual_seed(0)).to(subject.device)


def compare_throughput(subject: Subject, repeats: int) -> list[Figure]:
    """Compare encoding files with the forward pass alone, taken in turn, in float32 and in what ``auto`` would try."""
    figures: list[Figure] = []
    batches = subject.pixels().split(BATCH)
    for precision in subject.precisions():
        files, forward = [], []
        with computing_in(subject.clip, precision):
            subject.clip.encode_pixels(batches[0])
            for _ in range(repeats):
                files.append(_clocks(subject.encode))
                forward.append(_clocks(lambda: [subject.clip.encode_pixels(batch) for batch in batches]))
        name, count, goal = f"{subject.name} {precision}", len(subject.images), _THROUGHPUT_GOALS[subject.device.type]
        pairs = list(zip(files, forward, strict=True))
        note = f"{count} files of 227 x 227, {WORKERS} decoding threads"
        figures += [
            of_samples(f"{name}: encode JPEG files", [count / wall for wall, _ in files], "images/s", note=note),
            of_samples(f"{name}: forward pass alone", [count / wall for wall, _ in forward], "images/s"),
            of_samples(f"{name}: files / forward", [b[0] / a[0] for a, b in pairs], "x", at_least=goal),
            of_samples(f"{name}: same in processor time", [b[1] / a[1] for a, b in pairs], "x", note="less noisy"),
        ]
    return figures


def _clocks(act: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds of one call, over all threads."""
    began = time.process_time()
    wall, _ = timed(act, 1)
    return wall[0], time.process_time() - began
