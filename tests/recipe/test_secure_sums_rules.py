"""What a recipe with secure sums may have, and what is refused with which remedy."""

import pytest
import yaml

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.recipe.check import cross_faults
from fedclip_plugin.recipe.rules.round_updates import fewest_updates

MASKED = {"fedclip_args.secure_sums": True}
ONE_ROUND = {"fedclip_args.method": "ridge", "train_args.comm_round": 1}
CLIPPING = {"enable_defense": True, "defense_type": "norm_diff_clipping", "norm_bound": 1.0}
ATTACK = {"enable_attack": True, "attack_type": "byzantine", "attack_mode": "random", "byzantine_client_num": 1}
SIMULATED = {"common_args.training_type": "simulation", "comm_args.backend": "sp"}


def load(tmp_path, changes, **sections):
    text = yaml.safe_load(find_recipe("miniature/clip_tiny_fedclip").read_text(encoding="utf-8")) | sections
    for key, value in changes.items():
        section, name = key.split(".")
        text[section].pop(name, None)
        if value is not None:
            text[section][name] = value
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(text), encoding="utf-8")
    return load_recipe(file)


def test_the_usual_recipe_takes_them_and_no_rule_that_looks_at_single_updates(tmp_path):
    settings = TrainingSettings.of(load(tmp_path, MASKED))
    assert (settings.secure_sums, settings.secure_sums_bound, settings.redo) == (True, 1.0, False)
    assert settings.robust_aggregation == "none"
    assert TrainingSettings.of(load(tmp_path, {})).robust_aggregation == "norm_bound"
    more = {"fedclip_args.on_missing": "redo", "fedclip_args.secure_sums_bound": 0.5}
    settings = TrainingSettings.of(load(tmp_path, MASKED | more))
    assert (settings.redo, settings.secure_sums_bound) == (True, 0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"fedclip_args.weighting": "samples"},
        {"fedclip_args.server_optimizer": "adam", "fedclip_args.server_lr": 0.01},
        {"fedclip_args.dp_target_epsilon": 8.0},
        {"fedclip_args.robust_aggregation": "none"},
        {"fedclip_args.min_silos": 3},
        {"train_args.client_num_in_total": 4, "fedclip_args.target_domain": None, "fedclip_args.on_missing": "redo"},
        {"fedclip_args.wise": True, "fedclip_args.method": "sigmoid_gate"},
        ONE_ROUND,
        ONE_ROUND | {"fedclip_args.dp_target_epsilon": 8.0, "fedclip_args.augmented_views": 0},
        {"fedclip_args.method": "linear_probe", "fedclip_args.start": "ridge"},
    ],
)
def test_what_goes_with_them(tmp_path, changes):
    assert TrainingSettings.of(load(tmp_path, MASKED | changes)).secure_sums


def test_privacy_that_ends_silos_parts_leaves_three_or_ends_the_run(tmp_path):
    settings = TrainingSettings.of(load(tmp_path, MASKED | {"fedclip_args.dp_target_epsilon": 8.0}))
    assert (settings.fewest_silos, settings.fewest_updates) == (3, 3)
    nine = {"train_args.client_num_in_total": 9, "train_args.client_num_per_round": 9, "fedclip_args.domains": None}
    nine |= {"fedclip_args.data_layout": "classes", "fedclip_args.target_domain": None, "data_args.dataset": "own"}
    nine |= {"fedclip_args.data_root": "/srv", "fedclip_args.images_per_class": None}
    nine |= {"data_args.partition_method": "homo"}
    for more, fewest in (({}, 9), ({"fedclip_args.min_silos": 5}, 5), ({"fedclip_args.dp_target_epsilon": 8.0}, 3)):
        recipe = load(tmp_path, MASKED | nine | more)
        assert TrainingSettings.of(recipe).fewest_updates == fewest_updates(recipe.values()).count == fewest


@pytest.mark.parametrize(
    ("changes", "sections", "line"),
    [
        (
            {"train_args.client_num_per_round": 2},
            {},
            "train_args.client_num_per_round = 2: secure_sums need 3 silos in a round, or each of two would know the "
            "other's update; add silos",
        ),
        (
            {"train_args.client_num_in_total": 4, "fedclip_args.target_domain": None},
            {},
            "train_args.client_num_per_round = 3: with secure_sums and on_missing: abort the members of a sum never "
            "change in a run, or the difference of two sums would tell a silo's update; give 4, which is "
            "client_num_in_total, or only where the server is trusted on_missing: redo",
        ),
        ({"fedclip_args.min_silos": 2}, {}, "fedclip_args.min_silos = 2: secure_sums need 3 silos"),
        (SIMULATED, {}, 'common_args.training_type = "simulation": not with secure_sums: all clients are in the'),
        ({"fedclip_args.federation": "local"}, {}, 'fedclip_args.federation = "local": not with secure_sums'),
        ({"fedclip_args.codec": "int8"}, {}, 'fedclip_args.codec = "int8": not with secure_sums: masks are whole'),
        *(
            (
                {"fedclip_args.robust_aggregation": rule},
                {},
                f'fedclip_args.robust_aggregation = "{rule}": not with secure_sums: {rule} looks at single updates',
            )
            for rule in ("norm_bound", "median", "geometric_median")
        ),
        ({}, {"defense_args": CLIPPING}, "defense_args.enable_defense = true: not with secure_sums"),
        ({}, {"attack_args": ATTACK}, "attack_args.enable_attack = true: not with secure_sums"),
        (ONE_ROUND | {"fedclip_args.forgettable": True}, {}, "fedclip_args.forgettable = true: not with secure_sums"),
        (
            ONE_ROUND | {"fedclip_args.personal_statistics": True},
            {},
            "fedclip_args.personal_statistics = true: not with secure_sums",
        ),
        (
            {"fedclip_args.secure_sums_bound": 1000.0},
            {},
            "fedclip_args.secure_sums_bound = 1000.0: must be at most 100",
        ),
        ({"fedclip_args.norm_bound_factor": 4.0}, {}, "fedclip_args.norm_bound_factor = 4.0: only with robust_agg"),
    ],
)
def test_what_is_refused_by_name(tmp_path, changes, sections, line):
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, MASKED | changes, **sections)
    assert f"  {line}" in str(caught.value)
    assert "; " in str(caught.value), "with a remedy"


@pytest.mark.parametrize("changes", [{"fedclip_args.on_missing": "redo"}, {"fedclip_args.secure_sums_bound": 2.0}])
def test_keys_that_say_more_of_them_are_refused_without_them(tmp_path, changes):
    with pytest.raises(RecipeError, match=r"only with secure_sums: true; give that, or leave it out"):
        load(tmp_path, changes)
    with pytest.raises(RecipeError, match="on_missing"):
        load(tmp_path, MASKED | {"fedclip_args.on_missing": "wait"})


def test_a_round_that_closes_without_late_silos_does_not_go_with_them():
    values = {"fedclip_args.secure_sums": True, "fedclip_args.round_grace": 5.0}
    (fault,) = [fault for fault in cross_faults(values) if fault.where == "fedclip_args.round_grace"]
    assert "not with secure_sums: a sum can be read with all its silos only" in fault.line()
    assert not [fault for fault in cross_faults({"fedclip_args.secure_sums": True}) if "grace" in fault.where]


def test_all_faults_are_told_at_once(tmp_path):
    changes = {"fedclip_args.codec": "int8", "fedclip_args.robust_aggregation": "median", "fedclip_args.min_silos": 1}
    with pytest.raises(RecipeError, match="errors in") as caught:
        load(tmp_path, MASKED | changes)
    assert all(key.partition(".")[2] in str(caught.value) for key in changes)
