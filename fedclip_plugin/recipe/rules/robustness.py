"""Which robust aggregation a recipe has, and how many updates a round needs for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fedclip_plugin.recipe.faults import Fault, Rule, Values
from fedclip_plugin.recipe.rules.one_round import rounds_of
from fedclip_plugin.recipe.rules.round_updates import fewest_updates
from fedclip_plugin.recipe.schema.fedclip import FedClipArgs

FEWEST_UPDATES: dict[str, Callable[[int], int]] = {
    "norm_bound": lambda bad: 2 * bad + 1,
    "median": lambda bad: 2 * bad + 1,
    "trimmed_mean": lambda bad: 2 * bad + 1,
    "geometric_median": lambda bad: 2 * bad + 1,
    "multi_krum": lambda bad: 2 * bad + 3,
}
"""Rule to the fewest updates among which it survives so many bad ones: f < n/2, and n >= 2 f + 3 for Krum."""

_TOLD_HOW_MANY = ("trimmed_mean", "multi_krum")
_UNWEIGHTED = ("median", "trimmed_mean", "multi_krum")
_KEY, _BAD, _FACTOR = (f"fedclip_args.{key}" for key in ("robust_aggregation", "byzantine_silos", "norm_bound_factor"))


def in_force(asked: str | None, simulated: bool, averaged: bool, defended: bool, masked: bool) -> str:
    """Return the rule of a federation.

    Parameters
    ----------
    asked
        What the recipe says, if anything.
    simulated, averaged, defended, masked
        Whether the federation is a simulation, averages anything, has a defence of FedML's, and secure sums.
    """
    if asked is not None:
        return asked
    return "none" if simulated or defended or masked or not averaged else "norm_bound"


def _of(values: Values) -> str:
    return in_force(
        values.get(_KEY),
        simulated=values.get("common_args.training_type") == "simulation",
        averaged=values.get("fedclip_args.federation") != "local",
        defended=bool(values.get("defense_args.enable_defense")),
        masked=bool(values.get("fedclip_args.secure_sums")),
    )


def _enough_updates(values: Values) -> Iterator[Fault]:
    asked, bad = values.get(_KEY), values.get(_BAD)
    if asked in _TOLD_HOW_MANY and bad is None and _BAD in values:
        yield Fault(_BAD, f"is required by robust_aggregation: {asked}: how many silos may send anything, e.g. 1")
    updates = fewest_updates(values)
    if asked not in FEWEST_UPDATES or updates is None:
        return
    needed = FEWEST_UPDATES[asked](bad or 1)
    if updates.count >= needed:
        return
    able = [name for name, fewest in FEWEST_UPDATES.items() if fewest(bad or 1) <= updates.count]
    instead = f"or take {' or '.join(able)}" if able else "no rule tells bad silos from good ones among so few"
    survived = f"byzantine_silos: {bad}" if bad else "one bad silo"
    formula = f"2 f + {FEWEST_UPDATES[asked](0)}"
    rule = (
        f"needs {needed} updates a round ({formula}) to survive {survived}, but {updates.told()}; "
        f"add silos, or raise min_silos if that is lower than client_num_per_round; {instead}"
    )
    yield Fault(_KEY, rule, asked)


def _of_other_rules(values: Values) -> Iterator[Fault]:
    asked, bad, factor = values.get(_KEY), values.get(_BAD), values.get(_FACTOR)
    if bad is not None and asked not in FEWEST_UPDATES and _KEY in values:
        yield Fault(_BAD, f"only with robust_aggregation: {', '.join(FEWEST_UPDATES)}; leave it out", bad)
    if factor not in {None, FedClipArgs.model_fields["norm_bound_factor"].default} and _KEY in values:
        used = _of(values)
        if used != "norm_bound":
            yield Fault(_FACTOR, f"only with robust_aggregation: norm_bound, here {used}; leave it out", factor)
        elif rounds_of(values.get("fedclip_args.method")) is not None:
            rule = f"method {values['fedclip_args.method']} sends sums, and no updates to bound; leave it out"
            yield Fault(_FACTOR, rule, factor)


def _beside(values: Values) -> Iterator[Fault]:
    asked = values.get(_KEY)
    if asked not in FEWEST_UPDATES:
        return
    if values.get("defense_args.enable_defense"):
        yield Fault(_KEY, "defends beside FedML's defense_args; keep one of them", asked)
    if values.get("fedclip_args.start") not in {None, "zero_shot"}:
        start = values["fedclip_args.start"]
        rule = f"not with start: {start}, whose first round takes sums as they come; leave one of them out"
        yield Fault(_KEY, rule, asked)
    if asked in _UNWEIGHTED and values.get("fedclip_args.weighting") == "samples":
        rule = (
            f"robust_aggregation: {asked} takes all silos alike; write uniform, or take norm_bound or geometric_median"
        )
        yield Fault("fedclip_args.weighting", rule, "samples")


RULES: tuple[Rule, ...] = (_enough_updates, _of_other_rules, _beside)
"""On robust aggregation."""
