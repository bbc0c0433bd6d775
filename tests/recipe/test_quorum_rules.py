"""Which recipes may go on without silos that are late."""

import pytest

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe import Recipe
from tests.support.recipe_sections import changed

RECIPE = {
    "common_args": {"training_type": "cross_silo", "random_seed": 0},
    "data_args": {"dataset": "miniature"},
    "train_args": {
        **{"federated_optimizer": "FedAvg", "client_num_in_total": 3, "client_num_per_round": 3, "comm_round": 2},
        **{"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.0},
    },
    "validation_args": {"frequency_of_the_test": 1},
    "device_args": {"using_gpu": False},
    "comm_args": {"backend": "MPI"},
    "fedclip_args": {
        **{"data_layout": "domains", "domains": ["photo", "cartoon", "art_painting", "sketch"]},
        **{"target_domain": "sketch", "round_grace": 5.0, "min_silos": 2},
    },
}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("min_silos", None, "min_silos: is required by round_grace"),
        ("min_silos", 3, "must be less than client_num_per_round"),
        ("round_timeout", 2.0, "must be at most round_timeout, 2"),
        ("federation", "local", "averages nothing"),
        ("personal_statistics", True, "not with personal_statistics"),
    ],
)
def test_a_grace_that_cannot_work_is_refused(key, value, told):
    Recipe.checked(RECIPE, "test")
    changes = {f"fedclip_args.{key}": value}
    if key == "personal_statistics":
        changes["fedclip_args.method"] = "ridge"
    with pytest.raises(RecipeError, match=told):
        Recipe.checked(changed(RECIPE, changes), "test")
