"""Silo policies for tests: files, and what a recipe asks."""

import yaml

from fedclip_plugin.trust.policy_check import Asked
from fedclip_plugin.trust.silo_policy import load_policy

LAX = {
    "methods": "any",
    "backbones": "any",
    "runs": "any",
    "max_rounds": 1000,
    "max_bytes": 10**12,
    "min_silos": 1,
    "require_secure_sums": False,
    "require_differential_privacy": False,
    "min_class_count": 1,
    "allow_class_counts": True,
    "allow_kind_counts": True,
    "allow_forgettable": True,
    "allow_personal_statistics": True,
}
"""A policy that allows all that recipes offer."""


def write_policy(place, **changes):
    """Write a lax policy with changes (None removes a key) to a file, and return it."""
    kept = {key: value for key, value in (LAX | changes).items() if value is not None}
    place.write_text(yaml.safe_dump(kept), encoding="utf-8")
    return place


def policy_of(place, **changes):
    """Return what is read of such a file."""
    return load_policy(write_policy(place / "silo_policy.yaml", **changes))


def asked(recipe, run="demo", fingerprint="", update_bytes=0):
    return Asked(recipe, run, fingerprint, update_bytes)
