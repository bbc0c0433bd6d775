"""The sections by name, in the order in which a recipe lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import Field

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
from fedclip_plugin.recipe.schema.fedml_defences import AttackArgs, DefenseArgs
from fedclip_plugin.recipe.schema.types import Section


class RecipeSections(Section):
    """What a recipe holds, without the rules between keys; see `Recipe`."""

    common_args: CommonArgs
    data_args: DataArgs
    model_args: ModelArgs = Field(default_factory=ModelArgs)
    train_args: TrainArgs
    validation_args: ValidationArgs
    device_args: DeviceArgs = Field(default_factory=DeviceArgs)
    comm_args: CommArgs
    tracking_args: TrackingArgs = Field(default_factory=TrackingArgs)
    defense_args: DefenseArgs | None = None
    attack_args: AttackArgs | None = None
    fedclip_args: FedClipArgs = Field(default_factory=FedClipArgs)


def _model(annotation: Any) -> type[Section]:
    models: tuple[Any, ...] = get_args(annotation) or (annotation,)
    found: type[Section] = models[0]
    return found


SECTIONS: dict[str, type[Section]] = {
    name: _model(field.annotation) for name, field in RecipeSections.model_fields.items()
}
"""Section name to its model."""

SWITCHES: dict[str, str] = {
    "defense_args": "enable_defense",
    "attack_args": "enable_attack",
}
"""The sections that may be absent, each with the key that says it is there."""

_IDLE = SWITCHES | {"dp_args": "enable_dp"}

NOT_IN_DIGEST: dict[str, set[str]] = {
    "data_args": {"data_cache_dir", "data_silo_config"},
    "train_args": {"comm_round"},
    "device_args": {"using_gpu", "gpu_mapping_file", "gpu_mapping_key", "worker_num"},
    "tracking_args": set(TrackingArgs.model_fields),
    "fedclip_args": {
        *("data_root", "data_list", "feature_cache_dir", "run_dir", "keep_rounds"),
        *("min_silos", "start_timeout", "round_timeout", "round_grace"),
        *("calibrate", "false_reject_rate"),
        *("encode_batch_size", "encode_workers", "offline"),
    },
}
"""Keys that change no result, or only continue it: they may change when a run is resumed."""

_ALIKE = ("train_args.comm_round", *(f"fedclip_args.{key}" for key in ("min_silos", "round_grace", "calibrate")))
"""Of these, keys that all ranks of one job must have alike: they say which messages come, and when it ends."""


def alike(sections: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what all ranks of a job must have alike: what defines the result, and how its rounds go."""
    every = flat_sections(sections)
    return {**defining(sections), **{key: every[key] for key in _ALIKE if key in every}}


def defining(sections: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """Return sections with the keys that define a run's result alone; what is no section is left out."""
    return {
        name: {key: value for key, value in keys.items() if key not in NOT_IN_DIGEST.get(name, ())}
        for name, keys in sections.items()
        if isinstance(keys, Mapping)
    }


def flat_sections(sections: Mapping[Any, Any]) -> dict[str, Any]:
    """Return ``section.key`` to value, of all sections that hold keys."""
    known = {name: keys for name, keys in sections.items() if isinstance(keys, Mapping)}
    return {f"{name}.{key}": value for name, keys in known.items() for key, value in keys.items()}


def homes(key: str) -> list[str]:
    """Name the sections that have a key; none for an unknown one."""
    return [name for name, model in SECTIONS.items() if key in model.model_fields]


def without_idle(raw: Mapping[Any, Any]) -> dict[Any, Any]:
    """Leave out sections that say nothing but that they are switched off, as FedML's own examples have them.

    Returns
    -------
    dict
        The same, without e.g. ``dp_args: {enable_dp: false}``.
    """
    idle = {name: {switch: False} for name, switch in _IDLE.items()}
    return {name: keys for name, keys in raw.items() if name not in idle or keys != idle[name]}
