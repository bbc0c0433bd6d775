"""What a recipe of a method that is solved may say, and what is refused with which reason."""

import pytest
import yaml

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe import find_recipe, load_recipe

CLIPPING = {"enable_defense": True, "defense_type": "norm_diff_clipping", "norm_bound": 1.0}
SOLVED = {"fedclip_args.method": "ridge", "train_args.comm_round": 1}


def load(tmp_path, base="miniature/clip_tiny_fedclip", sections=None, **changes):
    text = yaml.safe_load(find_recipe(base).read_text(encoding="utf-8")) | (sections or {})
    for key, value in changes.items():
        section, name = key.split(".")
        text[section][name] = value
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(text), encoding="utf-8")
    return load_recipe(file)


@pytest.mark.parametrize("method", ["ridge", "ncm", "gda"])
@pytest.mark.parametrize(
    "keys", [{}, {"personal_statistics": True}, {"min_class_count": 5}, {"forgettable": True}, {"augmented_views": 2}]
)
def test_it_is_taken_with_one_round(tmp_path, method, keys):
    changes = SOLVED | {"fedclip_args.method": method} | {f"fedclip_args.{key}": value for key, value in keys.items()}
    assert load(tmp_path, **changes).train_args.comm_round == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train_args.comm_round": 30}, "comm_round = 30: method ridge is solved in one round; set it to 1"),
        ({"train_args.client_num_per_round": 2}, "client_num_per_round = 2: method ridge has one round"),
        ({"fedclip_args.weighting": "samples"}, "weigh a silo by its images already"),
        ({"fedclip_args.codec": "int8"}, "which 16 or 8 bits lose"),
        ({"fedclip_args.codec": "fp16"}, "which 16 or 8 bits lose"),
        ({"fedclip_args.server_optimizer": "sgd"}, "no average to step towards"),
        ({"fedclip_args.proximal_mu": 0.1}, "silos do not train"),
        ({"fedclip_args.personal_epochs": 2}, "personal_statistics: true solves an adapter for each of them"),
        ({"fedclip_args.federation": "local"}, "personal_statistics: true solves an adapter for each silo"),
        ({"fedclip_args.wise": True}, "not for method ridge, which trains nothing; leave it out, or take sigmoid_gate"),
        (
            {"fedclip_args.text_pull": 8},
            "not for method ridge, which trains nothing; leave it out, or take",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(tmp_path, changes, text):
    with pytest.raises(RecipeError, match="RECIPE: 1 error") as refused:
        load(tmp_path, **SOLVED | changes)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"defense_args": CLIPPING}, "compare updates"),
        ({"attack_args": {"enable_attack": True, "attack_type": "model_replacement"}}, "change updates"),
    ],
)
def test_what_fedml_does_to_updates_is_refused(tmp_path, section, text):
    with pytest.raises(RecipeError, match=text):
        load(tmp_path, sections=section, **SOLVED)


@pytest.mark.parametrize(
    ("key", "value"), [("personal_statistics", True), ("min_class_count", 2), ("forgettable", True)]
)
def test_its_keys_are_for_such_methods_alone(tmp_path, key, value):
    with pytest.raises(RecipeError, match=f"{key} = .*: only for method: ridge or ncm or gda; leave it out"):
        load(tmp_path, **{f"fedclip_args.{key}": value})


def test_in_a_simulation_nothing_can_be_forgotten_and_nothing_be_lost(tmp_path):
    everyone = {"train_args.client_num_per_round": 60, "fedclip_args.weighting": "uniform"}
    base = {"base": "simulation/clip_tiny_fedclip"} | SOLVED | everyone
    assert load(tmp_path, **base).simulated
    with pytest.raises(RecipeError, match="has the sum of its clients only"):
        load(tmp_path, **base | {"fedclip_args.forgettable": True})
    with pytest.raises(RecipeError, match="lost in the only round is lost for good"):
        load(tmp_path, **base | {"fedclip_args.client_drop_rate": 0.5})


def test_forgetting_is_for_few_silos(tmp_path):
    many = {"train_args.client_num_in_total": 33, "train_args.client_num_per_round": 33}
    shared = {"fedclip_args.data_layout": "classes", "fedclip_args.data_root": "images"}
    plain = {"fedclip_args.domains": None, "fedclip_args.target_domain": None, "fedclip_args.images_per_class": 80}
    changes = SOLVED | many | shared | plain
    own = {"data_args": {"dataset": "own", "partition_method": "homo"}}
    assert load(tmp_path, sections=own, **changes).train_args.client_num_in_total == 33
    with pytest.raises(RecipeError, match="for 32 silos at most, here 33"):
        load(tmp_path, sections=own, **changes | {"fedclip_args.forgettable": True})


STARTED = {"fedclip_args.method": "linear_probe", "fedclip_args.start": "ridge"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train_args.client_num_per_round": 2, "fedclip_args.min_class_count": 5},
        {"fedclip_args.wise": True, "fedclip_args.weighting": "samples", "fedclip_args.personal_epochs": 2},
        {"fedclip_args.server_optimizer": "sgd", "fedclip_args.proximal_mu": 0.1, "fedclip_args.text_pull": 8},
    ],
)
def test_a_probe_may_start_from_ridge(tmp_path, changes):
    assert load(tmp_path, **STARTED | changes).fedclip_args.start == "ridge"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"fedclip_args.method": "fedclip"}, 'start = "ridge": not for method fedclip; leave it out, or take linear_p'),
        ({"fedclip_args.start": "rigde"}, 'start = "rigde"'),
        ({"train_args.comm_round": 1}, "comm_round = 1: must be 2 or more with start: ridge, whose first round trains"),
        ({"fedclip_args.codec": "int8"}, "not with start: ridge: the first round's solution rests on small"),
        ({"fedclip_args.federation": "local"}, "not with start: ridge: silos that train alone share no sums"),
        ({"fedclip_args.personal_statistics": True}, "only for method: ridge or ncm or gda; leave it out"),
        ({"fedclip_args.forgettable": True}, "only for method: ridge or ncm or gda; leave it out"),
        ({"defense_args": CLIPPING}, "compare updates"),
    ],
)
def test_what_a_start_from_ridge_cannot_be_with_is_refused_with_the_reason(tmp_path, changes, text):
    keys = {key: value for key, value in changes.items() if "." in key}
    sections = {key: value for key, value in changes.items() if "." not in key}
    with pytest.raises(RecipeError, match="RECIPE: 1 error") as refused:
        load(tmp_path, sections=sections, **STARTED | keys)
    assert text in str(refused.value)


def test_sums_of_clients_are_not_lost_in_the_first_round(tmp_path):
    base = {"base": "simulation/clip_tiny_fedclip"} | STARTED
    assert load(tmp_path, **base).simulated
    with pytest.raises(RecipeError, match="what is lost in the first round is lost for good"):
        load(tmp_path, **base | {"fedclip_args.client_drop_rate": 0.5})
