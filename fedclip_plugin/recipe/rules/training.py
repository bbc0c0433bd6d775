"""The rules between the keys that say how adapters are trained, averaged and sent."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fedclip_plugin.errors import MethodError
from fedclip_plugin.methods.registry import METHODS, Method
from fedclip_plugin.recipe.faults import Fault, Rule, Values
from fedclip_plugin.recipe.rules.one_round import rounds_of
from fedclip_plugin.recipe.schema.fedclip import FedClipArgs

_NOT_FOR_ALL = {
    "text_pull": "which trains no class features on cached image features",
    "wise": "which does not start as zero-shot CLIP",
}
"""Keys that a method must say it takes, and why others do not."""


def _counts(values: Values) -> Iterator[Fault]:
    total = values.get("train_args.client_num_in_total")
    sampled = values.get("train_args.client_num_per_round")
    min_silos = values.get("fedclip_args.min_silos")
    if total and sampled and sampled > total:
        yield Fault("train_args.client_num_per_round", f"must be at most client_num_in_total, {total}", sampled)
    if min_silos and sampled and min_silos > sampled:
        yield Fault("fedclip_args.min_silos", f"must be at most client_num_per_round, {sampled}", min_silos)


def _local(values: Values) -> Iterator[Fault]:
    if values.get("fedclip_args.federation") != "local":
        return
    for key in ("codec", "proximal_mu", "server_optimizer", "wise", "class_split", "robust_aggregation"):
        value, idle = values.get(f"fedclip_args.{key}"), FedClipArgs.model_fields[key].default
        if value not in {None, idle}:
            yield Fault(f"fedclip_args.{key}", "federation: local averages nothing; leave it out", value)
    total, sampled = values.get("train_args.client_num_in_total"), values.get("train_args.client_num_per_round")
    if total and sampled and sampled < total:
        rule = f"federation: local trains every silo in every round; set it to client_num_in_total, {total}"
        yield Fault("train_args.client_num_per_round", rule, sampled)


def _method(values: Values) -> Iterator[Fault]:
    views, method = values.get("fedclip_args.augmented_views"), values.get("fedclip_args.method")
    try:
        on_pixels = method is not None and METHODS[method].on_pixels
    except MethodError as error:  # of another package
        yield Fault("fedclip_args.method", error.text, method)
        return
    if views and on_pixels:
        rule = f"only for methods on features, which encode each view once; method {method} is on pixels; leave it out"
        yield Fault("fedclip_args.augmented_views", rule, views)


def _regularisers(values: Values) -> Iterator[Fault]:
    try:
        method = METHODS[values["fedclip_args.method"]]
    except (KeyError, MethodError):  # told of by its own rules
        return
    key = "fedclip_args.zero_shot_distillation"
    weight = values.get(key)
    if weight and method.on_pixels:
        rule = "needs features, which are encoded once; method {} is on pixels and keeps none; leave it out"
        yield Fault(key, rule.format(method.name), weight)
    elif weight and method.name == "zero_shot":
        yield Fault(key, "method zero_shot trains nothing; leave it out", weight)
    for name, reason in _NOT_FOR_ALL.items():
        value = values.get(f"fedclip_args.{name}")
        if value and name not in method.takes:
            able = [own.name for own in METHODS.data.values() if isinstance(own, Method) and name in own.takes]
            why = reason if _trains(method) else "which trains nothing"
            rule = f"not for method {method.name}, {why}; leave it out, or take {' or '.join(able)}"
            yield Fault(f"fedclip_args.{name}", rule, list(value) if isinstance(value, tuple) else value)


def _trains(method: Method) -> bool:
    return method.rounds is None and method.name != "zero_shot"


def _wise(values: Values) -> Iterator[Fault]:
    key = "fedclip_args.wise"
    shares, template = values.get(key), values.get("fedclip_args.prompt_template")
    if not shares:
        return
    if values.get("train_args.comm_round") == 1 and rounds_of(values.get("fedclip_args.method")) is None:
        yield Fault("train_args.comm_round", "must be 2 or more with wise, whose last round trains nothing", 1)
    if (
        values.get("fedclip_args.method") == "prompt"
        and template
        and not re.search(r"\w\W", template.partition("{}")[0])
    ):
        rule = "not for method prompt where the template has no words before {}: it starts at random then; add some"
        yield Fault(key, rule, list(shares))


def _server_optimizer(values: Values) -> Iterator[Fault]:
    used = {"server_lr": ("sgd", "adam"), "server_momentum": ("sgd",)}
    chosen = values.get("fedclip_args.server_optimizer")
    for key, optimizers in used.items():
        value, idle = values.get(f"fedclip_args.{key}"), FedClipArgs.model_fields[key].default
        if chosen and value not in {None, idle} and chosen not in optimizers:
            rule = f"only for server_optimizer: {' or '.join(optimizers)}; leave it out"
            yield Fault(f"fedclip_args.{key}", rule, value)
    if chosen == "adam" and values.get("fedclip_args.server_lr") == FedClipArgs.model_fields["server_lr"].default:
        rule = "must be given with server_optimizer: adam, which moves each parameter by about so much; 0.01 is a start"
        yield Fault("fedclip_args.server_lr", rule)


def _calibration(values: Values) -> Iterator[Fault]:
    rate, idle = values.get("fedclip_args.false_reject_rate"), FedClipArgs.model_fields["false_reject_rate"].default
    if values.get("fedclip_args.calibrate") is False and rate not in {None, idle}:
        yield Fault("fedclip_args.false_reject_rate", "only with calibrate: true; leave it out", rate)


def _gpu(values: Values) -> Iterator[Fault]:
    keys = ("device_args.gpu_mapping_file", "device_args.gpu_mapping_key")
    if not all(key in values for key in keys):
        return
    given = [key for key in keys if values[key] is not None]
    if len(given) == 1:
        other = next(key for key in keys if key not in given)
        yield Fault(other, f"is required beside {given[0]}")


RULES: tuple[Rule, ...] = (_counts, _local, _method, _regularisers, _wise, _server_optimizer, _calibration, _gpu)
"""On how adapters are trained, averaged and sent, and where."""
