"""Which keys go with which of FedML's defences and attacks; FedML shares one key name between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedclip_plugin.recipe.faults import Fault, Rule, Values
from fedclip_plugin.recipe.rules.round_updates import FewestUpdates, fewest_updates

VARIANTS: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {
    "defense_args.defense_type": {
        "krum": {"needs": ("byzantine_client_num",), "may": ()},
        "multikrum": {"needs": ("byzantine_client_num", "krum_param_m"), "may": ()},
        "norm_diff_clipping": {"needs": ("norm_bound",), "may": ()},
    },
    "attack_args.attack_type": {
        "byzantine": {"needs": ("attack_mode", "byzantine_client_num"), "may": ()},
        "model_replacement": {"needs": (), "may": ("malicious_client_id",)},
    },
}
"""``section.key`` to its values to the keys of the section that each needs and may have besides."""


def drop_foreign(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Take out of un-flattened sections what belongs to another section's variant.

    Parameters
    ----------
    raw
        Sections made from FedML's flat arguments, where ``byzantine_client_num`` lands in both the
        defence's and the attack's section.

    Returns
    -------
    dict
        The same sections, without the keys that the chosen variants do not take.
    """
    sections = {name: dict(keys) for name, keys in raw.items()}
    for where, variants in VARIANTS.items():
        section, key = where.split(".")
        chosen = sections.get(section, {}).get(key)
        if chosen in variants:
            foreign = _optional(variants) - set(variants[chosen]["needs"]) - set(variants[chosen]["may"])
            sections[section] = {k: v for k, v in sections[section].items() if k not in foreign}
    return sections


def _variants(values: Values) -> Iterator[Fault]:
    """Yield a fault for each key that a chosen variant needs and lacks, or has and does not take."""
    for where, variants in VARIANTS.items():
        section, key = where.split(".")
        chosen = values.get(where)
        if chosen is None:
            continue
        needs, may = variants[chosen]["needs"], variants[chosen]["may"]
        for name in sorted(_optional(variants)):
            place = f"{section}.{name}"
            if name in needs and place in values and values[place] is None:
                yield Fault(place, f"is required by {key}: {chosen}")
            if name not in (*needs, *may) and values.get(place) is not None:
                yield Fault(place, f"not used by {key}: {chosen}; leave it out", values[place])


def _optional(variants: Mapping[str, Mapping[str, tuple[str, ...]]]) -> set[str]:
    return {name for variant in variants.values() for names in variant.values() for name in names}


def _krum(values: Values) -> Iterator[Fault]:
    """Hold FedML's ``2 b + 2 <= n - m`` for the fewest updates that a round may close with."""
    bad = values.get("defense_args.byzantine_client_num")
    kept = {"krum": 1, "multikrum": values.get("defense_args.krum_param_m")}.get(
        values.get("defense_args.defense_type", "")
    )
    updates = fewest_updates(values)
    if bad is None or kept is None or updates is None:
        return
    needed = 2 * bad + 2 + kept
    if updates.count < needed:
        rule = f"needs {needed} updates a round (2 b + 2 + m) but {updates.told()}; {_remedy(updates)}"
        yield Fault("defense_args.byzantine_client_num", rule, bad)


def _remedy(updates: FewestUpdates) -> str:
    return "lower it or add silos" if updates.key.endswith("client_num_per_round") else "lower it or raise min_silos"


def _attackers(values: Values) -> Iterator[Fault]:
    bad, sampled = values.get("attack_args.byzantine_client_num"), values.get("train_args.client_num_per_round")
    defended = values.get("defense_args.byzantine_client_num")
    chosen = values.get("attack_args.malicious_client_id")
    if bad and sampled and bad > sampled:
        yield Fault("attack_args.byzantine_client_num", f"must be at most client_num_per_round, {sampled}", bad)
    if chosen is not None and sampled and chosen >= sampled:
        rule = f"must be less than client_num_per_round, {sampled}; silos are counted from 0"
        yield Fault("attack_args.malicious_client_id", rule, chosen)
    if bad and defended and bad != defended:
        rule = f"must equal defense_args.byzantine_client_num, {defended}: FedML has one key for both"
        yield Fault("attack_args.byzantine_client_num", rule, bad)


RULES: tuple[Rule, ...] = (_variants, _krum, _attackers)
"""On FedML's defences and attacks."""
