"""A recipe against the silo policy: every violation is named, with the key of the recipe and that of the policy."""

import pytest

from fedclip_plugin.recipe import load_recipe
from fedclip_plugin.trust.left_before import LeftBefore
from fedclip_plugin.trust.outgoing import KINDS, Outgoing
from fedclip_plugin.trust.policy_check import message_violations, recipe_violations, refusal
from tests.support.policies import LAX, asked, policy_of

BACKBONE = "a" * 64
ONE_ROUND = {"fedclip_args__method": "ridge", "train_args__comm_round": 1}

VIOLATIONS = {
    "methods": ({"methods": ["linear_probe"]}, {}, 'fedclip_args.method = "fedclip": allowed are linear_probe'),
    "backbones": ({"backbones": ["b" * 64]}, {}, f'fedclip_args.backbone = "clip-tiny": has fingerprint {BACKBONE}'),
    "runs": ({"runs": ["other"]}, {}, 'name of the run = "demo": allowed are other; it is the last part of --run'),
    "max_rounds": ({"max_rounds": 2}, {}, "train_args.comm_round = 3: at most 2"),
    "max_bytes": ({"max_bytes": 2999}, {}, "train_args.comm_round = 3: 3 updates of 1,000 bytes; 2,999 may leave"),
    "min_silos": ({"min_silos": 4}, {}, "train_args.client_num_per_round = 3: an average must be of 4"),
    "require_secure_sums": ({"require_secure_sums": True}, {}, "fedclip_args.secure_sums = false: must be true"),
    "require_differential_privacy": (
        {"require_differential_privacy": True, "max_epsilon": 8.0, "max_delta": 1e-5},
        {},
        "fedclip_args.dp_target_epsilon: is not there, so that no epsilon is accounted",
    ),
    "min_class_count": ({"min_class_count": 5}, ONE_ROUND, "fedclip_args.min_class_count = 1: sums must be over 5"),
    "allow_class_counts": ({"allow_class_counts": False}, ONE_ROUND, 'fedclip_args.method = "ridge": counts of im'),
    "allow_kind_counts": ({"allow_kind_counts": False}, {}, "fedclip_args.calibrate = true: counts of answers"),
    "allow_forgettable": (
        {"allow_forgettable": False},
        ONE_ROUND | {"fedclip_args__forgettable": True},
        "fedclip_args.forgettable = true: the server may keep no silo's sums",
    ),
    "allow_personal_statistics": (
        {"allow_personal_statistics": False},
        ONE_ROUND | {"fedclip_args__personal_statistics": True},
        "fedclip_args.personal_statistics = true: sums may not go on",
    ),
}
"""By the policy's key: the policy, the recipe that violates it, and what is told."""


def recipe_of(workshop, **changes):
    return load_recipe(workshop.recipe("policy", **changes))


def found(tmp_path, recipe, **changes):
    file = policy_of(tmp_path, **changes)
    return recipe_violations(file.policy, asked(recipe, "demo", BACKBONE, 1000))


def test_every_key_of_a_policy_has_a_recipe_that_violates_it():
    assert set(VIOLATIONS) == set(LAX)


@pytest.mark.parametrize("key", VIOLATIONS)
def test_a_violation_names_both_keys(workshop, tmp_path, key):
    policy, changes, told = VIOLATIONS[key]
    violations = found(tmp_path, recipe_of(workshop, **changes), **policy)
    assert [violation.policy_key for violation in violations] == [key]
    assert violations[0].line().startswith(told)
    assert violations[0].line().endswith(f"({key})")


def test_a_lax_policy_allows_all(workshop, tmp_path):
    assert found(tmp_path, recipe_of(workshop)) == []
    assert found(tmp_path, recipe_of(workshop, **ONE_ROUND, fedclip_args__forgettable=True)) == []


@pytest.mark.parametrize(
    ("policy", "changes", "where"),
    [
        ({"min_silos": 3}, {"fedclip_args__min_silos": 2}, "fedclip_args.min_silos = 2"),
        ({"min_silos": 3}, {"fedclip_args__dp_target_epsilon": 8.0}, "fedclip_args.min_silos: an average must be of 3"),
        ({"min_silos": 3}, {"train_args__client_num_per_round": 2}, "train_args.client_num_per_round = 2"),
        (
            {"min_silos": 3},
            {"train_args__client_num_per_round": 2, "fedclip_args__dp_target_epsilon": 8.0},
            "train_args.client_num_per_round = 2",
        ),
        (
            {"methods": ["linear_probe"]},
            {"fedclip_args__method": "linear_probe", "fedclip_args__start": "ridge"},
            'fedclip_args.start = "ridge"',
        ),
        (
            {"allow_class_counts": False},
            {"fedclip_args__method": "linear_probe", "fedclip_args__start": "ridge"},
            'fedclip_args.start = "ridge"',
        ),
        ({"allow_class_counts": False}, {"fedclip_args__class_split": "base_new"}, "fedclip_args.class_split"),
    ],
)
def test_ways_around_are_seen(workshop, tmp_path, policy, changes, where):
    (violation,) = found(tmp_path, recipe_of(workshop, **changes), **policy)
    assert violation.line().startswith(where)


def test_a_policy_without_kind_counts_allows_a_recipe_that_calibrates_nothing(workshop, tmp_path):
    recipe = recipe_of(workshop, fedclip_args__calibrate=False)
    assert found(tmp_path, recipe, allow_kind_counts=False) == []


def test_a_backbone_that_is_not_here_is_none_of_the_allowed(workshop, tmp_path):
    file = policy_of(tmp_path, backbones=[BACKBONE])
    recipe = recipe_of(workshop)
    (violation,) = recipe_violations(file.policy, asked(recipe))
    assert "has no files here to tell it by" in violation.line()
    assert recipe_violations(file.policy, asked(recipe, fingerprint=BACKBONE)) == []


def test_all_violations_are_told_at_once_in_the_policys_order(workshop, tmp_path):
    file = policy_of(tmp_path, max_rounds=1, methods=["full"], min_silos=9)
    violations = recipe_violations(file.policy, asked(recipe_of(workshop)))
    assert [violation.policy_key for violation in violations] == ["methods", "max_rounds", "min_silos"]
    text = str(refusal(file, "the recipe of run demo", violations))
    assert text.splitlines()[0] == f"SILO POLICY: 3 violations of {file.path} by the recipe of run demo"
    assert len(text.splitlines()) == 5


@pytest.mark.parametrize(("target", "key"), [(None, "require_differential_privacy"), (8.0, None), (8.1, "max_epsilon")])
def test_the_epsilon_that_a_recipe_keeps_to_is_held_against_the_most(workshop, tmp_path, target, key):
    file = policy_of(tmp_path, require_differential_privacy=True, max_epsilon=8.0, max_delta=1e-5)
    recipe = recipe_of(workshop, fedclip_args__dp_target_epsilon=target)
    found = [violation.policy_key for violation in recipe_violations(file.policy, asked(recipe))]
    assert found == ([key] if key else [])


@pytest.mark.parametrize(("delta", "refused"), [(1e-5, False), (None, False), (0.1, True)])
def test_the_delta_of_that_epsilon_is_held_against_the_most(workshop, tmp_path, delta, refused):
    file = policy_of(tmp_path, require_differential_privacy=True, max_epsilon=8.0, max_delta=1e-5)
    given = {} if delta is None else {"fedclip_args__dp_delta": delta}
    recipe = recipe_of(workshop, fedclip_args__dp_target_epsilon=8.0, **given)
    lines = [violation.line() for violation in recipe_violations(file.policy, asked(recipe))]
    assert lines == (
        ["fedclip_args.dp_delta = 0.1: at most 1e-05; left out it is 1e-05 (max_delta)"] if refused else []
    )
    low = policy_of(tmp_path, require_differential_privacy=True, max_epsilon=8.0, max_delta=1e-7)
    assert [violation.policy_key for violation in recipe_violations(low.policy, asked(recipe))] == ["max_delta"]


def test_the_deltas_of_recipes_before_count_and_its_own_account_goes_on(workshop, tmp_path):
    file = policy_of(tmp_path, require_differential_privacy=True, max_epsilon=8.0, max_delta=3e-5)
    recipe = recipe_of(workshop, fedclip_args__dp_target_epsilon=2.0)
    left = LeftBefore(recipe.digest())
    for cell in ("a", "b", "c"):
        assert recipe_violations(file.policy, asked(recipe), left) == []
        left.recipe = cell
        left.add("update", 1, 2.0, 1e-5)
        left.recipe = recipe.digest()
    (violation,) = recipe_violations(file.policy, asked(recipe), left)
    told = "fedclip_args.dp_delta = 1e-05: at most 3e-05 in all, of which recipes before it have 3e-05 (max_delta)"
    assert violation.line() == told
    left.add("update", 1, 2.0, 1e-5)
    assert recipe_violations(file.policy, asked(recipe), left) == [], "as a resumed run"


def test_a_policy_that_bounds_epsilon_lets_noise_stand_for_a_number_of_images(workshop, tmp_path):
    recipe = recipe_of(workshop, **ONE_ROUND, fedclip_args__dp_target_epsilon=8.0)
    bounded = {"require_differential_privacy": True, "max_epsilon": 8.0, "max_delta": 1e-5}
    file = policy_of(tmp_path, min_class_count=5, **bounded)
    assert recipe_violations(file.policy, asked(recipe)) == []
    sums = Outgoing("sums", [b"1"], 1, epsilon=8.0, delta=1e-5, class_counts=[3])
    assert message_violations(file.policy, sums, LeftBefore()) == []
    free = policy_of(tmp_path, min_class_count=5)
    (violation,) = recipe_violations(free.policy, asked(recipe))
    assert "or the policy bound the noise that hides them: require_differential_privacy" in violation.line()
    assert [each.policy_key for each in message_violations(free.policy, sums, LeftBefore())] == ["min_class_count"]


def test_secure_sums_meet_a_policy_that_requires_them_unless_a_round_may_be_masked_twice(workshop, tmp_path):
    masked = {"fedclip_args__secure_sums": True}
    assert found(tmp_path, recipe_of(workshop, **masked), require_secure_sums=True) == []
    redo = recipe_of(workshop, **masked, fedclip_args__on_missing="redo")
    (violation,) = found(tmp_path, redo, require_secure_sums=True)
    assert violation.line().startswith('fedclip_args.on_missing = "redo": two sums of one round tell')
    assert found(tmp_path, redo) == []
    for kind in ("masked update", "masked sums"):
        message = Outgoing(kind, [b"1"], 1, class_counts=[3])
        assert message_violations(policy_of(tmp_path, require_secure_sums=True).policy, message, LeftBefore()) == []


def test_masked_sums_tell_no_silos_counts_of_classes(workshop, tmp_path):
    recipe = recipe_of(workshop, **ONE_ROUND, fedclip_args__secure_sums=True)
    assert found(tmp_path, recipe, allow_class_counts=False) == []
    few = found(tmp_path, recipe, min_class_count=5)
    assert [violation.policy_key for violation in few] == ["min_class_count"]


def test_every_message_that_a_silo_may_send_is_of_a_kind_that_the_policy_knows():
    from fedclip_plugin import what_leaves

    groups = (what_leaves.START_FROM_SILO, what_leaves.CLOSING_FROM_SILO, what_leaves.STUDY_FROM_SILO)
    declared = {kind.__name__ for group in (*groups, what_leaves.WITHIN_A_MACHINE) for kind in group}
    of_fedml = {"status", "report", "update", "sums", "trials", "interpolations", "masked update", "masked sums"}
    assert set(KINDS) - declared == of_fedml
    assert declared <= set(KINDS)


MESSAGES = {
    "unknown": ({}, {"kind": "images"}, "methods", "is of no kind that a silo sends"),
    "bytes": ({"max_bytes": 104}, {"kind": "report"}, "max_bytes", "would make it 105 bytes in all; 104 may leave"),
    "round": ({"max_rounds": 3}, {"kind": "update", "round": 4}, "max_rounds", "is of round 4; 3 are allowed"),
    "no round": ({}, {"kind": "update"}, "max_rounds", "is of round None"),
    "sums": ({"allow_class_counts": False}, {"kind": "sums", "round": 1}, "allow_class_counts", "counts per class"),
    "base and new": ({"allow_class_counts": False}, {"kind": "ClassCounts"}, "allow_class_counts", "counts per class"),
    "study": ({"allow_kind_counts": False}, {"kind": "CellPart"}, "allow_kind_counts", "counts per kind"),
    "an update that can be read": (
        {"require_secure_sums": True},
        {"kind": "update", "round": 1},
        "require_secure_sums",
        "can be read by itself",
    ),
    "few images, masked": (
        {"min_class_count": 5},
        {"kind": "masked sums", "round": 1, "class_counts": [0, 7, 4]},
        "min_class_count",
        "has sums over 4 images of a class; there must be 5, or none",
    ),
    "few images": (
        {"min_class_count": 5},
        {"kind": "sums", "round": 1, "class_counts": [0, 7, 4]},
        "min_class_count",
        "has sums over 4 images of a class; there must be 5, or none",
    ),
    "no epsilon": (
        {"require_differential_privacy": True, "max_epsilon": 1.0, "max_delta": 1e-5},
        {"kind": "update", "round": 1},
        "require_differential_privacy",
        "tells of no epsilon",
    ),
    "epsilon": (
        {"require_differential_privacy": True, "max_epsilon": 1.0, "max_delta": 1e-5},
        {"kind": "update", "round": 1, "epsilon": 1.5, "delta": 1e-5},
        "max_epsilon",
        "would make epsilon 1.5 in all; 1 may be spent",
    ),
    "delta": (
        {"require_differential_privacy": True, "max_epsilon": 1.0, "max_delta": 1e-6},
        {"kind": "update", "round": 1, "epsilon": 0.5, "delta": 1e-5},
        "max_delta",
        "would make delta 1e-05 in all; 1e-06 may be spent",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_each_message_is_held_against_the_policy(tmp_path, name):
    policy, message, key, told = MESSAGES[name]
    violations = message_violations(
        policy_of(tmp_path, **policy).policy, Outgoing(parts=[b"12345"], **message), LeftBefore(size=100)
    )
    assert [violation.policy_key for violation in violations] == [key]
    assert told in violations[0].line()


@pytest.mark.parametrize(
    "message",
    [{"kind": "report"}, {"kind": "update", "round": 3}, {"kind": "sums", "round": 1, "class_counts": [0, 5]}],
)
def test_what_is_allowed_passes(tmp_path, message):
    policy = policy_of(tmp_path, max_bytes=105, max_rounds=3, min_class_count=5).policy
    assert message_violations(policy, Outgoing(parts=[b"123", b"45"], **message), LeftBefore(size=100)) == []
