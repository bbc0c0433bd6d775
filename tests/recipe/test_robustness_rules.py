"""Which robust aggregation a recipe may have, and what is refused with which reason."""

import pytest
import yaml

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.federated.roles.robust_aggregation import RULES
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.recipe.rules.robustness import FEWEST_UPDATES

NINE = {"train_args.client_num_in_total": 9, "train_args.client_num_per_round": 9}
NINE |= {"fedclip_args.data_layout": "classes", "data_args.partition_method": "homo", "fedclip_args.domains": None}
NINE |= {"fedclip_args.target_domain": None, "data_args.dataset": "own", "fedclip_args.data_root": "/srv"}
NINE |= {"fedclip_args.images_per_class": None}
CLIPPING = {"enable_defense": True, "defense_type": "norm_diff_clipping", "norm_bound": 1.0}
SIMULATED = {"common_args.training_type": "simulation", "comm_args.backend": "sp", "fedclip_args.silos_per_domain": 3}
SIMULATED |= {"train_args.client_num_in_total": 9, "data_args.partition_method": "homo"}


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


def asked(name, bad=None, **more):
    own = {"robust_aggregation": name, "byzantine_silos": bad} | more
    return {f"fedclip_args.{key}": value for key, value in own.items() if value is not None}


def test_every_rule_says_how_many_updates_it_needs():
    assert FEWEST_UPDATES.keys() == RULES.keys() - {"none"}


@pytest.mark.parametrize(
    ("changes", "sections", "used"),
    [
        ({}, {}, "norm_bound"),
        (asked("none"), {}, "none"),
        (asked("median"), {}, "median"),
        ({}, {"defense_args": CLIPPING}, "none"),
        ({}, {"defense_args": CLIPPING | {"enable_defense": False}}, "norm_bound"),
        ({"fedclip_args.federation": "local"}, {}, "none"),
        (SIMULATED, {}, "none"),
        (SIMULATED | asked("norm_bound"), {}, "norm_bound"),
    ],
)
def test_what_is_in_force(tmp_path, changes, sections, used):
    assert TrainingSettings.of(load(tmp_path, changes, **sections)).robust_aggregation == used


@pytest.mark.parametrize(
    "changes",
    [
        asked("norm_bound", norm_bound_factor=3),
        asked("norm_bound", 1, weighting="samples"),
        {"fedclip_args.norm_bound_factor": 20},
        asked("median", 1),
        asked("trimmed_mean", 1),
        asked("geometric_median", weighting="samples"),
        NINE | asked("multi_krum", 3),
        NINE | asked("median", 4),
        asked("median", min_silos=3, dp_target_epsilon=8.0),
        asked("median", dp_noise_multiplier=1.0),  # without a target no silo's part ends
        asked("median", min_silos=3, server_optimizer="adam", server_lr=0.01, codec="int8"),
    ],
    ids=str,
)
def test_recipes_that_are_taken(tmp_path, changes):
    settings = TrainingSettings.of(load(tmp_path, changes))
    assert settings.robust_aggregation == changes.get("fedclip_args.robust_aggregation", "norm_bound")
    assert settings.byzantine_silos == changes.get("fedclip_args.byzantine_silos", 0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            asked("multi_krum", 1),
            "needs 5 updates a round (2 f + 3) to survive byzantine_silos: 1, but client_num_per_round is 3; add silos",
        ),
        (asked("multi_krum", 1), "or take norm_bound or median or trimmed_mean or geometric_median"),
        (asked("median", 2), "needs 5 updates a round (2 f + 1) to survive byzantine_silos: 2"),
        (asked("median", 2), "no rule tells bad silos from good ones among so few"),
        (asked("geometric_median", min_silos=2), "to survive one bad silo, but min_silos is 2"),
        (asked("trimmed_mean"), "byzantine_silos: is required by robust_aggregation: trimmed_mean"),
        (NINE | asked("multi_krum"), "byzantine_silos: is required by robust_aggregation: multi_krum"),
        (NINE | asked("multi_krum", 4), "needs 11 updates a round"),
        (NINE | asked("trimmed_mean", 5), "needs 11 updates a round"),
        (asked("none", 1), "byzantine_silos = 1: only with robust_aggregation: norm_bound, median"),
        ({"fedclip_args.byzantine_silos": 1}, "byzantine_silos = 1: only with robust_aggregation"),
        (asked("median", norm_bound_factor=8), "only with robust_aggregation: norm_bound, here median; leave it out"),
        (SIMULATED | {"fedclip_args.norm_bound_factor": 8}, "only with robust_aggregation: norm_bound, here none"),
        (asked("norm_bound", norm_bound_factor=0.5), "norm_bound_factor = 0.5"),
        (asked("median", weighting="samples"), "robust_aggregation: median takes all silos alike"),
        (asked("mediam"), "did you mean 'median'?"),
        (asked("median", federation="local"), "federation: local averages nothing"),
        (
            asked("norm_bound", method="ridge") | {"train_args.comm_round": 1},
            "not with method ridge: sums of honest silos differ",
        ),
        (
            {"fedclip_args.method": "ncm", "train_args.comm_round": 1, "fedclip_args.norm_bound_factor": 8},
            "method ncm sends sums, and no updates to bound",
        ),
        (asked("median", method="linear_probe", start="ridge"), "not with start: ridge, whose first round takes sums"),
        (SIMULATED | asked("median", client_drop_rate=0.1), "but min_silos, with client_drop_rate, is 1"),
        (asked("median", dp_target_epsilon=8.0), "but min_silos, with dp_target_epsilon, is 1"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_with_the_reason(tmp_path, changes, told):
    with pytest.raises(RecipeError) as refused:
        load(tmp_path, changes)
    assert told in str(refused.value)
    assert str(refused.value).startswith("RECIPE: 1 error")


def test_two_defences_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="defends beside FedML's defense_args; keep one of them"):
        load(tmp_path, asked("median"), defense_args=CLIPPING)
