"""The silo policy: what its operator lets leave a silo's machine, in a file on that machine that no recipe names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from fedclip_plugin.errors import PolicyError, RecipeError
from fedclip_plugin.recipe.check import check_fields
from fedclip_plugin.recipe.faults import Fault, closest, recipe_error
from fedclip_plugin.recipe.schema.types import Count, Delta, Flag, MethodName, Positive, Section, Text
from fedclip_plugin.recipe.yaml_reader import parse_yaml, read_plain
from fedclip_plugin.trust.operator_files import Places, require_own

VARIABLE = "FEDCLIP_SILO_POLICY"
"""The environment variable that names the policy's file."""

MACHINE_PLACE = Path("/etc/fedclip/silo_policy.yaml")
"""The machine's policy: where it is there, no variable can put another in its place."""

USER_PLACE = Path("~/.config/fedclip/silo_policy.yaml")
"""Where a user's own policy is looked for, when there is no other."""

ANY = "any"
"""What a list of a policy says where all is allowed."""

_FINGERPRINT_DIGITS = 64
_BUDGET = {"max_epsilon": "the most to be spent", "max_delta": "the most of which that may be, e.g. 1.0e-5"}
_ADVICE = "'fedclip policy example' prints one"


def _any_or_list(value: Any) -> Any:
    """Take ``any`` for no limit; an empty value is a mistake and not no limit."""
    if value is None:
        raise ValueError(f"is empty; give a list, or write {ANY}")
    return None if value == ANY else value


def _fingerprint(text: str) -> str:
    if len(text) != _FINGERPRINT_DIGITS or not set(text) <= set("0123456789abcdef"):
        raise ValueError("must be 64 hexadecimal digits, in quotes; 'fedclip policy check RECIPE' tells them")
    return text


_ANY_OR_LIST = BeforeValidator(_any_or_list)
_Bytes = Annotated[int, Field(strict=True, ge=1)]
_Methods = Annotated[tuple[MethodName, ...] | None, _ANY_OR_LIST]
_Fingerprints = Annotated[tuple[Annotated[Text, AfterValidator(_fingerprint)], ...] | None, _ANY_OR_LIST]
_Runs = Annotated[tuple[Text, ...] | None, _ANY_OR_LIST]


class SiloPolicy(Section):
    """What may leave a silo's machine. Each key but two must be given, so that nothing is allowed by leaving it out.

    Attributes
    ----------
    methods
        Allowed values of ``fedclip_args.method``; None allows all, as ``any`` in the file.
    backbones
        Fingerprints of allowed backbones; None allows all.
    runs
        Names of allowed runs, which are those of their folders; None allows all.
    max_rounds
        Most rounds, and most messages that carry training: a round that is trained again after a resume counts twice.
    max_bytes
        Most bytes that may leave in all messages of a run together, those before a resume included.
    min_silos
        Fewest silos whose updates are averaged in a round.
    require_secure_sums
        Whether the server must not see a single update.
    require_differential_privacy
        Whether updates must be differentially private, with an accounted epsilon.
    max_epsilon
        Most of it that the silo may spend, over all cells of a study together; given together with
        ``require_differential_privacy: true``.
    max_delta
        Most of delta, of which that epsilon is and without which it bounds nothing, over all cells of a study together;
        given together with it.
    min_class_count
        Fewest images of a class of which sums of features may leave; under ``require_differential_privacy`` noise hides
        smaller ones, and it does not count.
    allow_class_counts
        Whether counts of images per class may leave: sums of ``ridge``, ``ncm`` and ``gda``, and ``class_split``.
    allow_kind_counts
        Whether counts of images per kind of answer may leave: for ``calibrate``, and for the intervals of studies.
    allow_forgettable
        Whether the server may keep this silo's sums.
    allow_personal_statistics
        Whether the other silos may get sums that hold this silo's.
    """

    methods: _Methods
    backbones: _Fingerprints
    runs: _Runs
    max_rounds: Count
    max_bytes: _Bytes
    min_silos: Count
    require_secure_sums: Flag
    require_differential_privacy: Flag
    max_epsilon: Positive | None = None
    max_delta: Delta | None = None
    min_class_count: Count
    allow_class_counts: Flag
    allow_kind_counts: Flag
    allow_forgettable: Flag
    allow_personal_statistics: Flag


@dataclass(frozen=True)
class PolicyFile:
    """A policy, where it was read, and the SHA-256 of that file's bytes, hexadecimal."""

    policy: SiloPolicy
    path: Path
    sha256: str


def _places() -> Places:
    return Places("silo policy", VARIABLE, MACHINE_PLACE, USER_PLACE, PolicyError)


def find_policy(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file of this machine's policy; None where there is none.

    That is what the variable names, or without it the machine's own place, or the user's.

    Raises
    ------
    PolicyError
        The variable is empty, no full path, or names another file where the machine has a policy of its own; or a
        place cannot be looked at.
    """
    return _places().find(environment)


def places_told() -> str:
    """Return where a policy is looked for, as text."""
    return _places().told()


def load_policy(path: Path) -> PolicyFile:
    """Read and check a silo policy.

    Raises
    ------
    PolicyError
        It cannot be read, is malformed, lacks a key, has one that there is not, or a wrong value, which all are listed;
        or somebody besides this user and root can change it: then it binds nobody.
    """
    try:
        content = read_plain(path)
        require_own(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError(
            f"the silo policy {path} cannot be used: {reason}; mend that, or write another one: {_ADVICE}"
        ) from error
    try:
        raw, faults = parse_yaml(path, content, f"a silo policy holds keys; {_ADVICE}")
        values, found = check_fields("", SiloPolicy, raw, _unknown)
        faults += [*found, *_budget(values)]
        if faults:
            raise recipe_error(path, faults)
    except RecipeError as error:
        told = str(error).removeprefix("RECIPE")
        raise PolicyError(f"SILO POLICY{told}\n  nothing leaves this machine until it is mended; {_ADVICE}") from error
    return PolicyFile(SiloPolicy.model_construct(**values), path, hashlib.sha256(content).hexdigest())


def example_policy() -> str:
    """Return a policy to start from, with a comment for each key."""
    return (resources.files("fedclip_plugin.trust") / "example_policy.yaml").read_text(encoding="utf-8")


def _budget(values: Mapping[str, Any]) -> list[Fault]:
    """Hold ``max_epsilon`` and ``max_delta`` to ``require_differential_privacy``, and that to them."""
    required, faults = values.get("require_differential_privacy"), []
    for key, remedy in _BUDGET.items():
        if required and key in values and values[key] is None:
            faults.append(Fault(key, f"is required by require_differential_privacy: true; give {remedy}"))
        if required is False and values.get(key) is not None:
            rule = "binds nothing without require_differential_privacy: true; set that too"
            faults.append(Fault(key, rule, values[key]))
    return faults


def _unknown(key: Any, value: Any) -> Fault:
    names = list(SiloPolicy.model_fields)
    rule = f"is no key of a silo policy, which has {', '.join(names)}"
    return Fault(str(key), rule, value, closest(key, names))
