"""The sections by name, in the order in which a recipe lists them."""

from __future__ import annotations

from fedclip_plugin.recipe.schema.fedclip import FedClipArgs
from fedclip_plugin.recipe.schema.fedml import (
    CommArgs,
    CommonArgs,
    DataArgs,
    DeviceArgs,
    ModelArgs,
    TrackingArgs,
    TrainArgs,
    ValidationArgs,
)
from fedclip_plugin.recipe.schema.privacy import AttackArgs, DefenseArgs, DpArgs
from fedclip_plugin.recipe.schema.types import Section

SECTIONS: dict[str, type[Section]] = {
    "common_args": CommonArgs,
    "data_args": DataArgs,
    "model_args": ModelArgs,
    "train_args": TrainArgs,
    "validation_args": ValidationArgs,
    "device_args": DeviceArgs,
    "comm_args": CommArgs,
    "tracking_args": TrackingArgs,
    "dp_args": DpArgs,
    "defense_args": DefenseArgs,
    "attack_args": AttackArgs,
    "fedclip_args": FedClipArgs,
}
"""Section name to its model."""

SWITCHES: dict[str, str] = {
    "dp_args": "enable_dp",
    "defense_args": "enable_defense",
    "attack_args": "enable_attack",
}
"""The sections that may be absent, each with the key that says it is there."""


def homes(key: str) -> list[str]:
    """Name the sections that have a key.

    Parameters
    ----------
    key
        A bare key, e.g. ``batch_size``.

    Returns
    -------
    list of str
        Section names; empty for an unknown key.
    """
    return [name for name, model in SECTIONS.items() if key in model.model_fields]
