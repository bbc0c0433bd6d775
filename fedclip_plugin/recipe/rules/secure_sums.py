"""What secure sums take of a recipe, and what not: whatever needs a single silo's update, or fewer than three silos."""

from __future__ import annotations

from collections.abc import Iterator

from fedclip_plugin.recipe.faults import Fault, Rule, Values
from fedclip_plugin.recipe.schema.fedclip import FedClipArgs

FEWEST_IN_A_SUM = 3
"""Silos of a sum: of two each can take its own away, and has the other's."""

MOST_BOUND = 100.0
"""Of ``secure_sums_bound``: an average of 32 silos is then off by less than 1e-6."""

_SWITCH = "fedclip_args.secure_sums"
_BESIDE = ("secure_sums_bound", "on_missing")
"""Keys that say more of it."""

_WITHOUT = {
    "common_args.training_type": ("simulation", "all clients are in the server's own hands; use cross_silo"),
    "fedclip_args.federation": ("local", "silos that train alone have no sum; leave it out"),
    "defense_args.enable_defense": (True, "FedML's defences look at single updates; leave defense_args out"),
    "attack_args.enable_attack": (True, "FedML's attacks change single updates on the server; leave attack_args out"),
    "fedclip_args.forgettable": (True, "the server keeps each silo's own sums for it; leave it out"),
    "fedclip_args.personal_statistics": (True, "the server needs each silo's own sums for it; leave it out"),
}
"""Key to the value that does not go beside it, and why."""

_LOOKS_AT_ONE = "looks at single updates, which nobody sees; leave it out, or write none"


def _switched_on(values: Values) -> Iterator[Fault]:
    if values.get(_SWITCH) is not False:
        return
    for key in _BESIDE:
        value = values.get(f"fedclip_args.{key}")
        if value not in (None, FedClipArgs.model_fields[key].default):
            yield Fault(f"fedclip_args.{key}", "only with secure_sums: true; give that, or leave it out", value)


def _enough_silos(values: Values) -> Iterator[Fault]:
    if not values.get(_SWITCH):
        return
    rule = f"secure_sums need {FEWEST_IN_A_SUM} silos in a round, or each of two would know the other's update"
    for key, remedy in (
        ("train_args.client_num_per_round", "add silos, or leave secure_sums out"),
        ("fedclip_args.min_silos", f"write {FEWEST_IN_A_SUM} or more, or leave it out"),
    ):
        value = values.get(key)
        if value is not None and value < FEWEST_IN_A_SUM:
            yield Fault(key, f"{rule}; {remedy}", value)


def _one_group(values: Values) -> Iterator[Fault]:
    """Refuse rounds of some silos: sums of other members follow one another, and differ by single updates."""
    if not values.get(_SWITCH) or values.get("fedclip_args.on_missing") == "redo":
        return
    key = "train_args.client_num_per_round"
    sampled, total = values.get(key), values.get("train_args.client_num_in_total")
    if sampled is not None and total is not None and FEWEST_IN_A_SUM <= sampled < total:
        rule = (
            "with secure_sums and on_missing: abort the members of a sum never change in a run, or the difference of "
            f"two sums would tell a silo's update; give {total}, which is client_num_in_total, or only where the "
            "server is trusted on_missing: redo"
        )
        yield Fault(key, rule, sampled)


def _beside(values: Values) -> Iterator[Fault]:
    if not values.get(_SWITCH):
        return
    for where, (refused, why) in _WITHOUT.items():
        if values.get(where) == refused:
            yield Fault(where, f"not with secure_sums: {why}", refused)
    codec, rule = values.get("fedclip_args.codec"), values.get("fedclip_args.robust_aggregation")
    if codec not in (None, "none"):
        why = "masks are whole numbers of 32 bits, which no codec shortens; leave it out"
        yield Fault("fedclip_args.codec", f"not with secure_sums: {why}", codec)
    if rule not in (None, "none"):
        yield Fault("fedclip_args.robust_aggregation", f"not with secure_sums: {rule} {_LOOKS_AT_ONE}", rule)
    if values.get("fedclip_args.round_grace") is not None:
        why = "a sum can be read with all its silos only, so that no round closes without a late one; leave it out"
        yield Fault("fedclip_args.round_grace", f"not with secure_sums: {why}", values["fedclip_args.round_grace"])


def _bound(values: Values) -> Iterator[Fault]:
    bound = values.get("fedclip_args.secure_sums_bound")
    if bound is not None and bound > MOST_BOUND:
        rule = (
            f"must be at most {MOST_BOUND:g}: higher is less exact, and no update that is of use is so large; lower it"
        )
        yield Fault("fedclip_args.secure_sums_bound", rule, bound)


RULES: tuple[Rule, ...] = (_switched_on, _enough_silos, _one_group, _beside, _bound)
"""On secure sums."""
