"""A recipe, and each message, against the silo policy: every violation with the recipe's key and the policy's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedclip_edge.terminal import printable
from fedclip_plugin.errors import PolicyError
from fedclip_plugin.methods.registry import METHODS, ZERO_SHOT
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.recipe.faults import ABSENT, Fault
from fedclip_plugin.recipe.rules.round_updates import fewest_updates
from fedclip_plugin.recipe.schema.fedclip import DP_DELTA, DP_ROUNDING
from fedclip_plugin.text import counted
from fedclip_plugin.trust.left_before import LeftBefore, Spent
from fedclip_plugin.trust.outgoing import KINDS, Outgoing
from fedclip_plugin.trust.silo_policy import PolicyFile, SiloPolicy

EPSILON_KEY = "dp_target_epsilon"
"""The recipe's key for what a silo may spend of differential privacy; without it there is none that a policy counts."""

_BOUNDED = "a policy that requires differential privacy says how much"


@dataclass(frozen=True)
class Violation:
    """What a silo policy refuses.

    Attributes
    ----------
    policy_key
        The policy's key.
    where
        The recipe's key, the name of the run, or the message.
    rule
        What the policy allows.
    value
        What was given; ``ABSENT`` where nothing was.
    """

    policy_key: str
    where: str
    rule: str
    value: Any = ABSENT

    def line(self) -> str:
        """Return it as one line of text."""
        return Fault(self.where, f"{self.rule} ({self.policy_key})", self.value).line()


@dataclass(frozen=True)
class Asked:
    """What is asked of a silo's machine.

    Attributes
    ----------
    recipe
        The recipe.
    run
        Name of the run: that of its folder.
    fingerprint
        Of the recipe's backbone; empty where its files are not on this machine.
    update_bytes
        What one update of this silo takes at least; 0 where that is not known.
    """

    recipe: Recipe
    run: str
    fingerprint: str = ""
    update_bytes: int = 0


def recipe_violations(policy: SiloPolicy, asked: Asked, left: LeftBefore | None = None) -> list[Violation]:
    """Return all that a policy refuses of a recipe, in the order of the policy's keys.

    ``left`` is what has left before, by what there is a log of; without it only the recipe counts.
    """
    rules = (_names, _amounts, _silos, _protection, _statistics)
    found = [violation for rule in rules for violation in rule(policy, asked)]
    found += _delta(policy, asked, LeftBefore() if left is None else left)
    order = list(SiloPolicy.model_fields)
    return sorted(found, key=lambda violation: order.index(violation.policy_key))


def rest_violations(policy: SiloPolicy, asked: Asked, done: int, left: LeftBefore) -> list[Violation]:
    """Return what a policy refuses of the updates that are still to leave after ``done`` complete rounds.

    They are those that leave for sure: none is counted where silos are sampled, or where privacy may end their part.
    """
    train, settings = asked.recipe.train_args, asked.recipe.fedclip_args
    if train.client_num_per_round < train.client_num_in_total or settings.dp_target_epsilon is not None:
        return []
    rest, found = train.comm_round - done - bool(settings.wise), []  # the last round of wise trains nothing
    where = "train_args.comm_round"
    if left.rounds + rest > policy.max_rounds:
        rule = f"{rest} to go, and {left.rounds} have left, each as often as it was trained; {policy.max_rounds} may"
        found.append(Violation("max_rounds", where, rule, train.comm_round))
    if (size := left.size + rest * asked.update_bytes) > policy.max_bytes:
        rule = f"would make it {size:,} bytes in all, with {left.size:,} that left; {policy.max_bytes:,} may leave"
        found.append(Violation("max_bytes", where, rule, train.comm_round))
    return found


def message_violations(policy: SiloPolicy, message: Outgoing, left: LeftBefore) -> list[Violation]:
    """Return all that a policy refuses of a message, in view of what has ``left`` before it."""
    where, kind = f"message {message.kind}", KINDS.get(message.kind)
    if kind is None:
        return [Violation("methods", where, "is of no kind that a silo sends")]
    found = []
    if left.size + message.size > policy.max_bytes:
        rule = f"would make it {left.size + message.size:,} bytes in all; {policy.max_bytes:,} may leave"
        found.append(Violation("max_bytes", where, rule))
    if kind.trains:
        found += _rounds(policy, message, left, where)
    if policy.require_secure_sums and kind.trains and not kind.masked:
        found.append(Violation("require_secure_sums", where, "can be read by itself"))
    if kind.class_counts and not policy.allow_class_counts:
        found.append(Violation("allow_class_counts", where, "has counts per class, which may not leave"))
    if kind.kind_counts and not policy.allow_kind_counts:
        found.append(Violation("allow_kind_counts", where, "has counts per kind of answer, which may not leave"))
    small = [count for count in message.class_counts if 0 < count < policy.min_class_count]
    if small and not (policy.require_differential_privacy and message.epsilon is not None):
        rule = (
            f"has sums over {counted(min(small), 'image')} of a class; there must be {policy.min_class_count}, or none"
        )
        found.append(Violation("min_class_count", where, rule))
    if policy.require_differential_privacy and kind.trains:
        found += _spent(policy, message, left, where)
    return found


def refusal(file: PolicyFile, what: str, violations: Sequence[Violation]) -> PolicyError:
    """Return the error that names every violation of a policy."""
    lines = [f"  {violation.line()}" for violation in violations]
    advice = "  change that, or ask whoever answers for this machine to change its policy"
    count = counted(len(violations), "violation")
    return PolicyError("\n".join([f"SILO POLICY: {count} of {file.path} by {printable(what)}", *lines, advice]))


def sends_sums(recipe: Recipe) -> bool:
    """Return whether a silo sends sums over its images' features instead of an update, in one round at least."""
    settings = recipe.fedclip_args
    return METHODS[settings.method].sums is not None or settings.start != ZERO_SHOT


def _names(policy: SiloPolicy, asked: Asked) -> Iterator[Violation]:
    settings = asked.recipe.fedclip_args
    wanted = {"method": settings.method} | ({"start": settings.start} if settings.start != ZERO_SHOT else {})
    for key, method in wanted.items():
        if policy.methods is not None and method not in policy.methods:
            yield Violation("methods", f"fedclip_args.{key}", f"allowed are {_told(policy.methods)}", method)
    if policy.backbones is not None and asked.fingerprint not in policy.backbones:
        found = f"has fingerprint {asked.fingerprint}" if asked.fingerprint else "has no files here to tell it by"
        yield Violation("backbones", "fedclip_args.backbone", f"{found}, and is none of those", settings.backbone)
    if policy.runs is not None and asked.run not in policy.runs:
        rule = f"allowed are {_told(policy.runs)}; it is the last part of --run, or of a study's --out"
        yield Violation("runs", "name of the run", rule, asked.run)


def _amounts(policy: SiloPolicy, asked: Asked) -> Iterator[Violation]:
    train = asked.recipe.train_args
    if train.comm_round > policy.max_rounds:
        yield Violation("max_rounds", "train_args.comm_round", f"at most {policy.max_rounds}", train.comm_round)
    every = train.client_num_per_round == train.client_num_in_total
    updates = train.comm_round if every else 1
    if updates * asked.update_bytes > policy.max_bytes:
        rule = f"{counted(updates, 'update')} of {asked.update_bytes:,} bytes; {policy.max_bytes:,} may leave"
        yield Violation("max_bytes", "train_args.comm_round", rule, train.comm_round)


def _silos(policy: SiloPolicy, asked: Asked) -> Iterator[Violation]:
    sampled, fewest = asked.recipe.train_args.client_num_per_round, fewest_updates(asked.recipe.values())
    assert fewest is not None, "a checked recipe says how many silos train in a round"
    rule = f"an average must be of {policy.min_silos} silos' updates or more"
    if sampled < policy.min_silos:
        yield Violation("min_silos", "train_args.client_num_per_round", rule, sampled)
    elif fewest.count < policy.min_silos and fewest.lowered_by:
        yield Violation("min_silos", fewest.key, f"{rule}; without it one is enough with {fewest.lowered_by}")
    elif fewest.count < policy.min_silos:
        yield Violation("min_silos", fewest.key, rule, fewest.count)


def _protection(policy: SiloPolicy, asked: Asked) -> Iterator[Violation]:
    """Refuse what has not the protection that is required."""
    if policy.require_secure_sums and not asked.recipe.fedclip_args.secure_sums:
        rule = "must be true: the server may see no single update"
        yield Violation("require_secure_sums", "fedclip_args.secure_sums", rule, False)
    elif policy.require_secure_sums and asked.recipe.fedclip_args.on_missing == "redo":
        rule = "two sums of one round tell what those in one of them alone have sent; leave it out"
        yield Violation("require_secure_sums", "fedclip_args.on_missing", rule, "redo")
    if policy.require_differential_privacy:
        assert policy.max_epsilon is not None and policy.max_delta is not None, _BOUNDED
        where, settings = f"fedclip_args.{EPSILON_KEY}", asked.recipe.fedclip_args
        target = settings.dp_target_epsilon
        if target is None:
            rule = "is not there, so that no epsilon is accounted and kept to"
            yield Violation("require_differential_privacy", where, rule)
        elif target > policy.max_epsilon:
            yield Violation("max_epsilon", where, f"at most {policy.max_epsilon:g}", target)


def _delta(policy: SiloPolicy, asked: Asked, left: LeftBefore) -> Iterator[Violation]:
    """Refuse a delta that is too large, by itself or with those of the recipes before, as a study has them."""
    settings = asked.recipe.fedclip_args
    if policy.max_delta is None or settings.dp_target_epsilon is None:
        return
    before = 0.0 if left.has_spent() else left.spent.delta  # what it has an account of already, it may go on with
    if (before + settings.delta) > policy.max_delta * DP_ROUNDING:
        rule = f"at most {policy.max_delta:g}; left out it is {DP_DELTA:g}"
        if before:
            rule = f"at most {policy.max_delta:g} in all, of which recipes before it have {before:g}"
        yield Violation("max_delta", "fedclip_args.dp_delta", rule, settings.delta)


def _statistics(policy: SiloPolicy, asked: Asked) -> Iterator[Violation]:
    settings = asked.recipe.fedclip_args
    if sends_sums(asked.recipe):
        key = "method" if METHODS[settings.method].sums is not None else "start"
        least = settings.min_class_count
        private = settings.private
        rule = f"sums must be over {policy.min_class_count} images of a class or more"
        if private and policy.min_class_count > 1 and not policy.require_differential_privacy:
            rule = f"{rule}, or the policy bound the noise that hides them: require_differential_privacy, max_epsilon"
            yield Violation("min_class_count", "fedclip_args", rule)
        elif not private and least < policy.min_class_count:
            yield Violation("min_class_count", "fedclip_args.min_class_count", rule, least)
        if not policy.allow_class_counts and not settings.secure_sums:  # else those of all silos together do
            rule = "counts of images per class may not leave"
            yield Violation("allow_class_counts", f"fedclip_args.{key}", rule, getattr(settings, key))
    if settings.class_split != "all" and not policy.allow_class_counts:
        rule = "counts of images of base and of new classes may not leave"
        yield Violation("allow_class_counts", "fedclip_args.class_split", rule, settings.class_split)
    if settings.calibrate and settings.federation == "federated" and not policy.allow_kind_counts:
        rule = "counts of answers by their confidence may not leave; set it to false"
        yield Violation("allow_kind_counts", "fedclip_args.calibrate", rule, True)
    if settings.forgettable and not policy.allow_forgettable:
        yield Violation("allow_forgettable", "fedclip_args.forgettable", "the server may keep no silo's sums", True)
    if settings.personal_statistics and not policy.allow_personal_statistics:
        rule = "sums may not go on to other silos"
        yield Violation("allow_personal_statistics", "fedclip_args.personal_statistics", rule, True)


def _rounds(policy: SiloPolicy, message: Outgoing, left: LeftBefore, where: str) -> Iterator[Violation]:
    if message.round is None or message.round > policy.max_rounds:
        yield Violation("max_rounds", where, f"is of round {message.round}; {policy.max_rounds} are allowed")
    elif left.rounds >= policy.max_rounds:
        rule = f"would be message {left.rounds + 1} with training, with rounds that a resume trained again"
        yield Violation("max_rounds", where, f"{rule}; {policy.max_rounds} are allowed")


def _spent(policy: SiloPolicy, message: Outgoing, left: LeftBefore, where: str) -> Iterator[Violation]:
    assert policy.max_epsilon is not None and policy.max_delta is not None, _BOUNDED
    if message.epsilon is None or message.delta is None:
        yield Violation("require_differential_privacy", where, "tells of no epsilon, so that it has none")
        return
    spent = left.spent_with(Spent(message.epsilon, message.delta), message.account)
    for key, what, most in (("max_epsilon", "epsilon", policy.max_epsilon), ("max_delta", "delta", policy.max_delta)):
        if (came := getattr(spent, what)) > most * DP_ROUNDING:
            yield Violation(key, where, f"would make {what} {came:.4g} in all; {most:g} may be spent")


def _told(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names)) or "none"
