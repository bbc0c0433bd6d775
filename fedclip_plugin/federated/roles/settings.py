"""What trainer, aggregator and managers take from the recipe; FedML's own keys stay in FedML's arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from fedclip_plugin.recipe import Recipe


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
    min_silos: int  # usable updates that a round needs
    weighting: str
    averaged: bool  # whether silos go on from the average (``federation: federated``)
    proximal_mu: float
    personal_epochs: int
    codec: str
    server_optimizer: str
    server_lr: float
    server_momentum: float
    keep_rounds: int
    round_timeout: float  # seconds

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """Take them from a checked recipe."""
        train, own = recipe.train_args, recipe.fedclip_args
        return cls(
            random_seed=recipe.common_args.random_seed,
            comm_round=train.comm_round,
            epochs=train.epochs,
            batch_size=train.batch_size,
            learning_rate=train.learning_rate,
            weight_decay=train.weight_decay,
            silos_per_round=train.client_num_per_round,
            min_silos=own.min_silos or train.client_num_per_round,
            weighting=own.weighting,
            averaged=own.federation == "federated",
            proximal_mu=own.proximal_mu,
            personal_epochs=own.personal_epochs,
            codec=own.codec,
            server_optimizer=own.server_optimizer,
            server_lr=own.server_lr,
            server_momentum=own.server_momentum,
            keep_rounds=own.keep_rounds,
            round_timeout=own.round_timeout,
        )
