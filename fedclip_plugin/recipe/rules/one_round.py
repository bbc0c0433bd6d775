"""What a method that is solved in one round, from sums over the silos' images, takes of a recipe, and what not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fedclip_plugin.errors import MethodError
from fedclip_plugin.methods.registry import METHODS, ZERO_SHOT
from fedclip_plugin.recipe.faults import Fault, Rule, Values
from fedclip_plugin.recipe.schema.fedclip import FedClipArgs

MOST_FORGETTABLE = 32
"""Silos of which one can be taken out afterwards: each is sent what is solved without each of the others."""

_ONLY = ("personal_statistics", "min_class_count", "forgettable")
"""Keys of these methods alone."""

_WITHOUT = {
    "weighting": "sums over images weigh a silo by its images already",
    "codec": "a solution rests on small differences of sums, which 16 or 8 bits lose",
    "server_optimizer": "the server solves; there is no average to step towards",
    "proximal_mu": "silos do not train",
    "zero_shot_distillation": "silos do not train",
    "personal_epochs": "silos do not train; personal_statistics: true solves an adapter for each of them",
    "federation": "personal_statistics: true solves an adapter for each silo, of its own sums where that is best",
    "client_drop_rate": "what is lost in the only round is lost for good",
    "robust_aggregation": "sums of honest silos differ by their images, so that none can be told from a bad one's",
}
"""Keys that make no sense beside them, and why."""

_FEDML = {
    "defense_args.enable_defense": "FedML's defences compare updates, and sums of honest silos differ by their images",
    "attack_args.enable_attack": "FedML's attacks change updates",
}


_NOT_AT_FIRST = {
    "codec": "the first round's solution rests on small differences of sums, which 16 or 8 bits lose",
    "federation": "silos that train alone share no sums",
    "client_drop_rate": "what is lost in the first round is lost for good",
}
"""Keys that make no sense where the first round is solved and later ones train, and why."""


def _one_round(values: Values) -> Iterator[Fault]:
    method = values.get("fedclip_args.method")
    if rounds_of(method) is None:
        return
    asked = values.get("train_args.comm_round")
    if asked is not None and asked != 1:
        yield Fault("train_args.comm_round", f"method {method} is solved in one round; set it to 1", asked)
    total, sampled = values.get("train_args.client_num_in_total"), values.get("train_args.client_num_per_round")
    if total and sampled and sampled < total:
        rule = f"method {method} has one round, which needs all silos; set it to client_num_in_total, {total}"
        yield Fault("train_args.client_num_per_round", rule, sampled)
    yield from _foreign(values, f"method {method}", _WITHOUT)


def _start(values: Values) -> Iterator[Fault]:
    start, method = values.get("fedclip_args.start"), values.get("fedclip_args.method")
    if not _is_solved(start) or method is None:
        return
    if start not in _starts_of(method):
        able = " or ".join(name for name in METHODS if start in _starts_of(name))
        yield Fault("fedclip_args.start", f"not for method {method}; leave it out, or take {able}", start)
        return
    if values.get("train_args.comm_round") == 1:
        rule = f"must be 2 or more with start: {start}, whose first round trains nothing; that alone is method: {start}"
        yield Fault("train_args.comm_round", rule, 1)
    yield from _foreign(values, f"start: {start}", _NOT_AT_FIRST)


def _foreign(values: Values, told: str, keys: Mapping[str, str]) -> Iterator[Fault]:
    for key, why in keys.items():
        value = values.get(f"fedclip_args.{key}")
        if value not in {None, FedClipArgs.model_fields[key].default}:
            yield Fault(f"fedclip_args.{key}", f"not with {told}: {why}; leave it out", value)
    for where, why in _FEDML.items():
        if values.get(where):
            yield Fault(where, f"not with {told}: {why}; leave it out", values[where])


def _of_these_alone(values: Values) -> Iterator[Fault]:
    method = values.get("fedclip_args.method")
    if method is None or rounds_of(method) is not None:
        return
    for key in _ONLY:
        value = values.get(f"fedclip_args.{key}")
        if key == "min_class_count" and _is_solved(values.get("fedclip_args.start")):
            continue  # sums are sent then too
        if value not in {None, FedClipArgs.model_fields[key].default}:
            solved = " or ".join(name for name in METHODS if rounds_of(name) is not None)
            yield Fault(f"fedclip_args.{key}", f"only for method: {solved}; leave it out", value)


def _forgettable(values: Values) -> Iterator[Fault]:
    total = values.get("train_args.client_num_in_total")
    if not values.get("fedclip_args.forgettable"):
        return
    if values.get("common_args.training_type") == "simulation":
        rule = "a simulation's server has the sum of its clients only; leave it out, and run again without a client"
        yield Fault("fedclip_args.forgettable", rule, True)
    elif total and total > MOST_FORGETTABLE:
        rule = (
            f"sends each silo what is solved without each other one: for {MOST_FORGETTABLE} silos at most, here {total}"
        )
        yield Fault("fedclip_args.forgettable", rule, True)


def rounds_of(method: object) -> int | None:
    """Return how many rounds a method takes; None where the recipe says, and for what is no method."""
    try:
        return METHODS[method].rounds if isinstance(method, str) and method in METHODS else None
    except MethodError:  # of another package: the rule on methods says so
        return None


def _is_solved(start: object) -> bool:
    return start not in (None, ZERO_SHOT)


def _starts_of(method: str) -> Mapping[str, str]:
    try:
        return METHODS[method].starts if method in METHODS else {}
    except MethodError:
        return {}


RULES: tuple[Rule, ...] = (_one_round, _start, _of_these_alone, _forgettable)
"""On methods that are solved and not trained."""
