"""The rules on rounds that go on without silos that are late."""

from __future__ import annotations

from collections.abc import Iterator

from fedclip_plugin.recipe.faults import Fault, Rule, Values

_KEY = "fedclip_args.round_grace"

_NEEDS_ALL = {
    "personal_statistics": "a silo that is late would lack the sums of the others",
    "forgettable": "what is kept of each silo must be whole",
}
"""Keys that need every silo's answer, and why."""


def _enough(values: Values) -> Iterator[Fault]:
    grace, min_silos = values.get(_KEY), values.get("fedclip_args.min_silos")
    sampled = values.get("train_args.client_num_per_round")
    if not grace:
        return
    if min_silos is None and "fedclip_args.min_silos" in values:
        yield Fault("fedclip_args.min_silos", "is required by round_grace: how many updates a round needs, e.g. 2")
    elif min_silos is not None and min_silos == sampled:
        rule = "must be less than client_num_per_round with round_grace, or no silo may ever be late; lower it"
        yield Fault("fedclip_args.min_silos", rule, min_silos)


def _timeout(values: Values) -> Iterator[Fault]:
    grace, timeout = values.get(_KEY), values.get("fedclip_args.round_timeout")
    if grace and timeout and grace > timeout:
        yield Fault(_KEY, f"must be at most round_timeout, {timeout:g}, after which a silent silo ends the job", grace)


def _beside(values: Values) -> Iterator[Fault]:
    grace = values.get(_KEY)
    if not grace:
        return
    if values.get("common_args.training_type") == "simulation":
        yield Fault(_KEY, "only across silos: the clients of a simulation are never late; leave it out", grace)
    if values.get("fedclip_args.federation") == "local":
        yield Fault(_KEY, "federation: local averages nothing, so that no silo holds another up; leave it out", grace)
    for key, reason in _NEEDS_ALL.items():
        if values.get(f"fedclip_args.{key}"):
            yield Fault(_KEY, f"not with {key}: {reason}; leave one of them out", grace)


RULES: tuple[Rule, ...] = (_enough, _timeout, _beside)
"""On ``round_grace``."""
