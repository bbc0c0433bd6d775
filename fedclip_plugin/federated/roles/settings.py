"""What trainer, aggregator and managers take from the recipe; FedML's own keys stay in FedML's arguments."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from fedclip_plugin.federated.privacy.privacy_settings import PrivacySettings
from fedclip_plugin.methods.registry import ZERO_SHOT
from fedclip_plugin.methods.regularisers import Regularisers
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.recipe.client_sampling import sampled
from fedclip_plugin.recipe.rules.robustness import FEWEST_UPDATES, in_force
from fedclip_plugin.recipe.rules.secure_sums import FEWEST_IN_A_SUM


@dataclass(frozen=True)
class TrainingSettings:
    """How a federation trains; names, defaults and meaning are the recipe's."""

    random_seed: int
    comm_round: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    silos_per_round: int  # ``client_num_per_round``; to FedML every silo takes part in every round
    frequency_of_the_test: int
    client_drop_rate: float
    min_silos: int  # usable updates that a round needs, if so many were asked for; without the key all that were
    start: str
    weighting: str
    averaged: bool  # whether silos go on from the average (``federation: federated``)
    proximal_mu: float
    zero_shot_distillation: float
    text_pull: float
    wise: tuple[float, ...]
    personal_epochs: int
    personal_statistics: bool
    augmented_views: int
    min_class_count: int
    forgettable: bool
    robust_aggregation: str
    byzantine_silos: int  # 0 where the recipe does not say
    norm_bound_factor: float
    codec: str
    server_optimizer: str
    server_lr: float
    server_momentum: float
    keep_rounds: int
    class_split: str
    calibrate: bool
    false_reject_rate: float
    round_timeout: float  # seconds
    round_grace: float | None = None  # seconds after which a round goes on without silos that are late
    fewest_silos: int = 1  # that must train in a round: min_silos; without that key as few as its aggregation needs
    loss: str | None = None
    privacy: PrivacySettings | None = None
    secure_sums: bool = False
    secure_sums_bound: float = 1.0
    redo: bool = False  # whether a silo masks a round again without members that are said to be lost (``on_missing``)

    def interpolates(self, index: int) -> bool:
        """Return whether the round of this index trains nothing, but interpolates (``wise``): the last one."""
        return bool(self.wise) and index == self.comm_round - 1

    @property
    def fewest_updates(self) -> int:
        """With how few updates a round may close, as the rules on recipes have it: privacy may end silos' parts."""
        ends = self.privacy is not None and self.privacy.target_epsilon is not None
        return self.fewest_silos if ends else self.min_silos

    def is_summed(self, index: int) -> bool:
        """Return whether what silos send in the round of this index is added up: updates, or sums over images."""
        return index < self.comm_round and not self.interpolates(index)

    def taking_part(self, index: int, silos: int) -> int:
        """Return how many of the silos take part in the round of this index: all where it does not train."""
        solves = self.start != ZERO_SHOT and index == 0
        return silos if solves or self.interpolates(index) else self.silos_per_round

    def rounds_of(self, index: int, silos: int) -> int:
        """Return in how many of the rounds the silo of this index trains, while all silos may."""
        sampled_in = (
            index in sampled(self.random_seed, number, silos, self.taking_part(number, silos))
            for number in range(self.comm_round)
            if not self.interpolates(number)
        )
        return sum(sampled_in)

    def is_tested(self, number: int) -> bool:
        """Return whether the adapter after ``number`` rounds is tested: as FedML, the first one, every n, the last."""
        return number in (0, self.comm_round) or (number - 1) % self.frequency_of_the_test == 0

    @property
    def personal(self) -> bool:
        """Whether each silo makes an adapter of its own after the last round."""
        return bool(self.personal_epochs) or self.personal_statistics

    @property
    def regularisers(self) -> Regularisers:
        """What is added to the method's loss."""
        return Regularisers(self.zero_shot_distillation, self.text_pull, self.loss is not None)

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """Take them from a checked recipe."""
        flat, sampled = recipe.flat(), recipe.train_args.client_num_per_round
        asked, averaged = recipe.fedclip_args.robust_aggregation, recipe.fedclip_args.federation == "federated"
        defended = recipe.defense_args is not None and recipe.defense_args.enable_defense
        masked = recipe.fedclip_args.secure_sums
        needed = FEWEST_IN_A_SUM if masked else 1
        if asked in FEWEST_UPDATES:
            needed = FEWEST_UPDATES[asked](recipe.fedclip_args.byzantine_silos or 1)
        derived: dict[str, Any] = {
            "silos_per_round": sampled,
            "min_silos": recipe.fedclip_args.min_silos or (1 if recipe.fedclip_args.client_drop_rate else sampled),
            "wise": recipe.fedclip_args.wise or (),
            "averaged": averaged,
            "robust_aggregation": in_force(asked, recipe.simulated, averaged, defended, masked),
            "byzantine_silos": recipe.fedclip_args.byzantine_silos or 0,
            "fewest_silos": max(recipe.fedclip_args.min_silos or 1, needed),
            "loss": recipe.fedclip_args.loss,
            "round_grace": recipe.fedclip_args.round_grace,
            "privacy": PrivacySettings.of(recipe),
            "redo": recipe.fedclip_args.on_missing == "redo",
        }
        return cls(**{field.name: flat[field.name] for field in fields(cls) if field.name not in derived}, **derived)
