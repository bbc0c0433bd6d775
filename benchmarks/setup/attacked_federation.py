"""A federation on the miniature's cached features in which some silos attack; no product code can be told to do so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedclip_plugin.features import FeatureSet, SiloFeatures
from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.task import Score
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.roles.update_matrix import UpdateMatrix
from fedclip_plugin.federated.simulation.preparation import SimulationInputs, SimulationPreparation
from fedclip_plugin.federated.simulation.worker_group import WorkerGroup
from fedclip_plugin.federated.startup.fedml_args import start_simulation
from fedclip_plugin.methods import Adapter, ZeroShot, create_adapter, load_parameters
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder

Tensors = OrderedDict[str, Tensor]
CPU = torch.device("cpu")
_START_SECONDS = 600.0
_NOISE, _ATTACK_SEED = 100.0, 7


@dataclass(frozen=True)
class Attack:
    """What a silo does instead of what it should.

    Attributes
    ----------
    title
        How it is called.
    changes
        From the change that it trained, and random numbers, to the one that it sends.
    flips_labels
        Whether it trains on wrong labels: each class is called the next one.
    """

    title: str
    changes: Callable[[Tensors, torch.Generator], Tensors] | None = None
    flips_labels: bool = False


def _times(factor: float) -> Callable[[Tensors, torch.Generator], Tensors]:
    return lambda change, rng: Tensors((name, factor * own) for name, own in change.items())


def _noise(change: Tensors, rng: torch.Generator) -> Tensors:
    drawn = Tensors((name, torch.randn(own.shape, generator=rng)) for name, own in change.items())
    return _times(_NOISE * _norm(change) / _norm(drawn))(drawn, rng)


def _norm(change: Mapping[str, Tensor]) -> float:
    return float(torch.cat([own.reshape(-1) for own in change.values()]).double().norm())


ATTACKS = (
    Attack("x 10", _times(10.0)),
    Attack("x 1e6", _times(1e6)),
    Attack("sign flip", _times(-1.0)),
    Attack(f"noise of {_NOISE:g} x", _noise),
    Attack("label flip", flips_labels=True),
)
HONEST = Attack("none")


@dataclass(frozen=True)
class Outcome:
    """What a federation ends with: accuracies in percent, and of each round the norms of the updates that were sent."""

    sources: float  # mean over the source domains
    target: float
    norms: tuple[tuple[float, ...], ...] = ()

    @property
    def largest(self) -> float:
        """The largest norm of an update, in medians of its round."""
        return max(max(own) / float(np.median(own)) for own in self.norms)


class MiniatureSilos:
    """The silos of a federation on the miniature with sketch held out: clients of a simulation, in this process.

    Parameters
    ----------
    work
        Folder for the drawings, their features and what FedML wants to have.
    each
        How many silos share a domain's images; there are three domains.
    keys
        Further keys of the recipe, by ``section.key``.
    """

    def __init__(self, work: Path, each: int, **keys: object) -> None:
        usual: dict[str, object] = {
            "comm_args.backend": "sp",
            "train_args.client_num_in_total": 3 * each,
            "train_args.client_num_per_round": 3 * each,
            "data_args.partition_method": "homo",
            "data_args.partition_alpha": None,
            "data_args.data_cache_dir": str(work / "data"),
            "fedclip_args.feature_cache_dir": str(work / "features"),
            "fedclip_args.silos_per_domain": each,
            "fedclip_args.weighting": "uniform",
            "fedclip_args.images_per_class": 80,
            "fedclip_args.run_dir": str(work / "attacks"),
        }
        asked = usual | {key.replace("__", "."): value for key, value in keys.items()}
        self._file = find_recipe("simulation/clip_tiny_fedclip")
        self._words = [f"{key}={'null' if value is None else value}" for key, value in asked.items()]
        self.folder = RunFolder(work / "attacks")

    def federate(
        self,
        rule: Mapping[str, Any],
        attack: Attack = HONEST,
        attackers: int = 0,
        method: str = "fedclip",
        shares: Sequence[float] = (),
    ) -> Outcome:
        """Train a federation, and return how its last adapter does.

        Parameters
        ----------
        rule
            The settings of robust aggregation, as :class:`TrainingSettings` has them.
        attack, attackers
            What the last silos do, and how many they are.
        method
            What is trained, on features.
        shares
            Of each silo, how much of its training images it has; all without any.
        """
        settings, task = replace(self._settings, **rule), replace(self.inputs.task, method=method)
        models = [create_adapter(method, self.inputs.frozen, settings.random_seed) for _ in range(2)]
        aggregator = FedClipAggregator(models[0], self._args, settings, task, self.inputs.data.names, self.folder)
        trainer = FedClipTrainer(models[1], self._args, settings, task, "", self.folder)
        rng, norms, silos = torch.Generator().manual_seed(_ATTACK_SEED), [], len(self.inputs.data)
        data = [self._images(silo, shares[silo] if shares else 1.0) for silo in range(silos)]
        for number in range(settings.comm_round):
            self._args.round_idx = number
            held = Tensors((name, own.clone()) for name, own in aggregator.get_model_params().items())
            sent = [
                self._update(trainer, held, silo, data[silo], attack if silo >= silos - attackers else HONEST, rng)
                for silo in range(silos)
            ]
            norms.append(tuple(UpdateMatrix(held, [own for _, own in sent]).norms().tolist()))
            updates, _ = aggregator.on_before_aggregation(sent)
            aggregator.set_model_params(aggregator.on_after_aggregation(aggregator.aggregate(updates)))
        return replace(self._scored(aggregator.model), norms=tuple(norms))

    def zero_shot(self) -> Outcome:
        """Return how CLIP without an adapter does."""
        return self._scored(ZeroShot())

    @cached_property
    def inputs(self) -> SimulationInputs:
        """The features of all images, encoded once."""
        group = WorkerGroup.of(None, _START_SECONDS)
        return SimulationPreparation(self._recipe, group, CPU, progress=False, say=lambda text: None).run()

    @cached_property
    def _recipe(self) -> Recipe:
        return load_recipe(self._file, self._words)

    @cached_property
    def _settings(self) -> TrainingSettings:
        return TrainingSettings.of(self._recipe)

    @cached_property
    def _args(self) -> Any:
        args = start_simulation(self._recipe)
        args.federated_optimizer = "FedAvg"
        return args

    def _images(self, silo: int, share: float) -> FeatureSet:
        images = self.inputs.data.train(silo)
        assert isinstance(images, FeatureSet), "the method is on features"
        return images.subset(np.arange(round(share * len(images))))

    def _update(
        self,
        trainer: FedClipTrainer,
        held: Tensors,
        silo: int,
        images: FeatureSet,
        attack: Attack,
        rng: torch.Generator,
    ) -> tuple[float, Tensors]:
        """Return what a silo sends after a round: its number of images and parameters."""
        if attack.flips_labels:
            images = replace(images, labels=(images.labels + 1) % len(self.inputs.task.classes))
        load_parameters(trainer.model, held)
        trainer.set_id(silo)
        none = images.subset(np.zeros(0, np.int64))
        trainer.train(SiloFeatures(images, none, none), CPU, self._args)
        found = Tensors((name, own.clone()) for name, own in trainer.get_model_params().items())
        if attack.changes is not None:
            change = attack.changes(Tensors((name, own - held[name]) for name, own in found.items()), rng)
            found = Tensors((name, held[name] + own) for name, own in change.items())
        return len(images), found

    def _scored(self, adapter: Adapter) -> Outcome:
        task, data = self.inputs.task, self.inputs.data
        by_source = [Score(0, 0)] * len(data.sources)
        for silo, source in enumerate(data.source_of.tolist()):
            own, before = task.score(adapter, data[silo].test), by_source[source]
            by_source[source] = Score(before.correct + own.correct, before.count + own.count)
        assert self.inputs.target is not None, "sketch is held out"
        sources = float(np.mean([own.accuracy for own in by_source]))
        return Outcome(100 * sources, 100 * task.score(adapter, self.inputs.target).accuracy)
