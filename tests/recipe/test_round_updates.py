"""With how many updates a round may close, and which key says so: for rules, defences and silo policies alike."""

import pytest

from fedclip_plugin.recipe.rules.round_updates import FewestUpdates, fewest_updates

SAMPLED, MIN_SILOS = "train_args.client_num_per_round", "fedclip_args.min_silos"


@pytest.mark.parametrize(
    ("values", "found", "told"),
    [
        ({SAMPLED: 5}, FewestUpdates(5, SAMPLED), "client_num_per_round is 5"),
        ({SAMPLED: 5, MIN_SILOS: 4}, FewestUpdates(4, MIN_SILOS), "min_silos is 4"),
        ({SAMPLED: 5, MIN_SILOS: 5}, FewestUpdates(5, SAMPLED), "client_num_per_round is 5"),
        ({MIN_SILOS: 4}, FewestUpdates(4, MIN_SILOS), "min_silos is 4"),
        (
            {SAMPLED: 5, "fedclip_args.dp_target_epsilon": 8.0},
            FewestUpdates(1, MIN_SILOS, "dp_target_epsilon"),
            "min_silos, with dp_target_epsilon, is 1",
        ),
        (
            {SAMPLED: 5, MIN_SILOS: 3, "fedclip_args.dp_target_epsilon": 8.0},
            FewestUpdates(3, MIN_SILOS),
            "min_silos is 3",
        ),
        (
            {SAMPLED: 5, "fedclip_args.client_drop_rate": 0.1},
            FewestUpdates(1, MIN_SILOS, "client_drop_rate"),
            "min_silos, with client_drop_rate, is 1",
        ),
        (
            {SAMPLED: 5, "fedclip_args.dp_target_epsilon": 8.0, "fedclip_args.secure_sums": True},
            FewestUpdates(3, "fedclip_args.secure_sums"),
            "secure_sums, without min_silos, go on with 3",
        ),
        ({SAMPLED: 5, "fedclip_args.client_drop_rate": 0.0}, FewestUpdates(5, SAMPLED), "client_num_per_round is 5"),
    ],
)
def test_the_fewest_updates_of_a_round(values, found, told):
    assert fewest_updates(values) == found
    assert found.told() == told


def test_of_keys_that_are_missing_nothing_is_known():
    assert fewest_updates({MIN_SILOS: None, "train_args.comm_round": 3}) is None
