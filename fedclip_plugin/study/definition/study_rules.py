"""The rules of studies: what cells share, what the study sets itself, and how large a grid may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe.faults import Fault, listed
from fedclip_plugin.recipe.overrides import name_fault
from fedclip_plugin.recipe.rules.data import shares_out
from fedclip_plugin.recipe.schema.sections import SWITCHES
from fedclip_plugin.study.definition.study import Case

POINTS: dict[str, int] = {"features": 6, "pixels": 3}
"""Most points of a grid, by what the method is trained on; one budget for all methods of a kind."""

OWN: dict[str, str] = {
    "fedclip_args.target_domain": "is the study's; list the domains under targets",
    "common_args.random_seed": "is the study's; list the numbers under seeds",
    "fedclip_args.run_dir": "is the study's; choose the results folder with --out",
    "fedclip_args.round_grace": "is not for a study, whose cells are compared over the same silos; leave it out",
    "fedclip_args.keep_rounds": "is the study's: best and final adapters are kept; leave it out",
    "validation_args.frequency_of_the_test": "is the study's: every round is tested; leave it out",
}
"""Keys that a study sets itself."""

_OF_A_CASE = ("fedclip_args.method", "fedclip_args.federation")
"""What makes a row of the tables, and no point of a grid."""

RESERVED = ("target", "server")
"""Names that results give to the target domain's answers and to the server."""

_SHARED: frozenset[str] = frozenset(
    f"fedclip_args.{key}"
    for key in (
        *("backbone", "precision", "data_layout", "data_root", "domains", "silos", "classes", "class_split"),
        *("data_list", "file_column", "label_column", "silo_column", "group_column", "split_column"),
        *("images_per_class", "difficulty", "on_bad_image", "min_images_per_silo", "silos_per_domain"),
    )
) | {
    *("train_args.client_num_in_total", "common_args.training_type", "comm_args.backend", "device_args.worker_num"),
}
"""What all cells must have in common, so that one job holds them and each answers for the same images."""


_FEDERATION = "fedclip_args.federation"
_ONLY_COUNTED = "clients' own adapters are only counted on a target in a simulation; leave targets out"

_SAME_IMAGES = frozenset(
    f"data_args.{key}" for key in ("dataset", "data_cache_dir", "data_silo_config", "partition_seed")
)
"""Keys of ``data_args`` that say which images there are, and not who has them."""


def base_faults(base: Mapping[Any, Any]) -> Iterator[Fault]:
    """Yield what the sections of a base recipe have that no study takes."""
    for section, switch in SWITCHES.items():
        if base.get(section) not in (None, {switch: False}):
            yield Fault(f"recipe: {section}", f"{_ONE_PER_PROCESS}; take it out")
    tracking = base.get("tracking_args")
    if isinstance(tracking, Mapping) and tracking.get("enable_wandb"):
        rule = "wandb follows one run a process and a study has many in one; set it to false"
        yield Fault("recipe: tracking_args.enable_wandb", rule, tracking["enable_wandb"])


def settings_faults(where: str, settings: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with the names of settings at a place; their values are checked with the recipe."""
    for name, value in settings.items():
        section, place = name.partition(".")[0], f"{where}.{name}"
        if name in OWN:
            yield Fault(place, OWN[name], value)
        elif section in SWITCHES:
            yield Fault(place, f"{_ONE_PER_PROCESS}; leave it out", value)
        elif name.startswith("tracking_args."):
            yield Fault(place, "is about one run, not about a study; leave it out", value)
        else:
            fault = name_fault(place, name)
            yield from (fault,) if fault else ()


def image_faults(shared: Mapping[str, Any], targets: Sequence[str]) -> Iterator[Fault]:
    """Yield what keeps the answers for single images from being told apart.

    Parameters
    ----------
    shared
        ``section.key`` to value of the base recipe and the study's settings.
    """
    if targets and shares_out(shared):
        yield Fault("targets", "all images are shared out among the silos, and no domain is held out; leave it out")
    if targets and shared.get(_FEDERATION) == "local" and shared.get("common_args.training_type") == "simulation":
        yield Fault(_FEDERATION, _ONLY_COUNTED, "local")
    named = {"targets": targets} | {
        f"fedclip_args.{key}": shared.get(f"fedclip_args.{key}") for key in ("domains", "silos")
    }
    for place, names in named.items():
        for name in names if isinstance(names, list | tuple) else ():
            if name in RESERVED:
                yield Fault(
                    place, f"must not name {' or '.join(RESERVED)}, as results call other things so; rename it", name
                )


def title_faults(cases: Mapping[str, Case]) -> Iterator[Fault]:
    """Yield every title that an earlier case has already."""
    first: dict[str, str] = {}
    for name, case in cases.items():
        if first.setdefault(case.title, name) != name:
            rule = f"is the title of case {first[case.title]} too; tables and pictures need another"
            yield Fault(f"cases.{name}.title", rule, case.title)


def case_faults(where: str, case: Case, below: Mapping[str, Any], targets: Sequence[str] = ()) -> Iterator[Fault]:
    """Yield what is wrong with the settings and the grid of a case that is valid by itself.

    Parameters
    ----------
    below
        ``section.key`` to value of the base recipe and the study's settings, which the case's are laid over.
    targets
        The study's.
    """
    layers = {f"{where}.set": case.settings}
    layers |= {f"{where}.grid[{number}]": point for number, point in enumerate(case.grid)}
    simulated = below.get("common_args.training_type") == "simulation"
    for place, settings in layers.items():
        yield from settings_faults(place, settings)
        for name in settings:
            if _is_shared(name, simulated):
                yield Fault(f"{place}.{name}", "all cells share it; move it to the study's set", settings[name])
    if simulated and targets and case.settings.get(_FEDERATION) == "local":
        yield Fault(f"{where}.set.{_FEDERATION}", f"{_ONLY_COUNTED}, or the case", "local")
    yield from _grid(where, case, below)


def _is_shared(name: str, simulated: bool) -> bool:
    """Return whether all cells must have a key in common; cases of a simulation may share images out differently."""
    return name in _SHARED or (name.startswith("data_args.") and not (simulated and name not in _SAME_IMAGES))


def _grid(where: str, case: Case, below: Mapping[str, Any]) -> Iterator[Fault]:
    keys = set(case.grid[0])
    for number, point in enumerate(case.grid):
        if set(point) != keys:
            rule = f"must set the same keys as the grid's first point, {listed(sorted(keys))}"
            yield Fault(f"{where}.grid[{number}]", rule, point)
        for name in _OF_A_CASE:
            if name in point:
                yield Fault(f"{where}.grid[{number}].{name}", "makes a case of its own, not a point", point[name])
    for name in sorted(keys & set(case.settings)):
        yield Fault(f"{where}.set.{name}", "is set by the grid too; keep one", case.settings[name])
    method = {**below, **case.settings}.get("fedclip_args.method", "fedclip")
    kind = METHODS[method].inputs if isinstance(method, str) and method in METHODS else "features"
    if len(case.grid) > POINTS[kind]:
        rule = f"must have at most {POINTS[kind]} points for a method on {kind}; it has {len(case.grid)}"
        yield Fault(f"{where}.grid", rule)


_ONE_PER_PROCESS = "FedML keeps defence and attack once a process, and a study has many federations in one"
