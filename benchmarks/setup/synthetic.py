"""A federation's parts from random features: real widths and counts, nothing to load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.data import split_60_20_20
from fedclip_plugin.features import FeatureSet, SiloFeatures, TextFeatures, prompts_of
from fedclip_plugin.federated.members import Members
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.federated.startup.preparation import Prepared
from fedclip_plugin.methods import AdapterInputs

WIDTH = 512
CLASSES = 7
LOGIT_SCALE = 100.0


def random_set(count: int, generator: torch.Generator, width: int) -> FeatureSet:
    """Return ``count`` labelled features ``[count, width]`` sampled from a normal distribution."""
    labels = torch.arange(count) % CLASSES
    return FeatureSet(torch.randn(count, width, generator=generator), labels)


@dataclass(frozen=True)
class Work:
    """How many images silos (split 60/20/20) and target domain hold, and the width of features: ``100,100:16:512``."""

    sources: Sequence[int]
    target: int
    width: int = WIDTH

    def __str__(self) -> str:
        return f"{','.join(map(str, self.sources))}:{self.target}:{self.width}"

    @classmethod
    def parse(cls, text: str) -> Work:
        """Return what a text of :meth:`__str__` says."""
        sources, target, width = text.split(":")
        return cls([int(count) for count in sources.split(",")], int(target), int(width))


def prepared(rank: int, work: Work) -> Prepared:
    """Return what a rank (0 for the server, silos from 1) would hold after loading and encoding, of seven classes."""
    sampled = torch.randn(CLASSES, work.width, generator=torch.Generator().manual_seed(0))
    text = TextFeatures(torch.nn.functional.normalize(sampled, dim=-1), LOGIT_SCALE)
    names = tuple(f"class_{index}" for index in range(CLASSES))
    task = Task("fedclip", "random", "0" * 64, "fp32", names, "a picture of a {}", text, "0" * 16)
    frozen = AdapterInputs(text, prompts_of(names, task.prompt_template), _no_backbone)
    silos = tuple(f"silo_{index}" for index in range(len(work.sources)))
    members, generator = Members(len(silos)), torch.Generator().manual_seed(rank + 1)
    if rank == 0:
        return Prepared(task, "server", silos, members, None, random_set(work.target, generator, work.width), frozen)
    data = random_set(work.sources[rank - 1], generator, work.width)
    split = split_60_20_20(len(data), 0)
    parts = SiloFeatures(data.subset(split.train), data.subset(split.validation), data.subset(split.test))
    return Prepared(task, silos[rank - 1], (), members, parts, None, frozen)


def _no_backbone() -> FrozenClip:
    raise RuntimeError("random features have no backbone")
