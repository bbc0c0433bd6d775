"""Keys are set in a recipe's text, and its comments stay."""

import yaml

from fedclip_plugin.recipe.edit_text import set_in_text

TEXT = """# a header

train_args:
  epochs: 1        # more: silos drift
  batch_size: 32

fedclip_args:
  method: fedclip
  silos: [a, b]    # in order
"""


def test_values_are_replaced_and_comments_keep_their_column():
    found = set_in_text(TEXT, {"train_args": {"epochs": 12}, "fedclip_args": {"silos": ["north", "we st"]}})
    assert "  epochs: 12       # more: silos drift\n" in found
    assert "  silos: [north, we st]  # in order\n" in found
    assert found.startswith("# a header\n\ntrain_args:\n")


def test_keys_and_sections_are_added_and_taken_out():
    keys = {"train_args": {"batch_size": None, "seed": 3}, "attack_args": {"enable_attack": True}}
    found = set_in_text(TEXT, keys)
    assert yaml.safe_load(found) == {
        "train_args": {"epochs": 1, "seed": 3},
        "fedclip_args": {"method": "fedclip", "silos": ["a", "b"]},
        "attack_args": {"enable_attack": True},
    }
    assert found.index("seed: 3") < found.index("fedclip_args:")


def test_values_are_quoted_where_yaml_asks_for_it_and_long_lists_go_over_lines():
    names = [f"no. {number}: #{number}" for number in range(40)]
    found = set_in_text(TEXT, {"fedclip_args": {"silos": names, "method": "010", "data_root": "~/a b"}})
    assert yaml.safe_load(found)["fedclip_args"] == {"method": "010", "silos": names, "data_root": "~/a b"}
    assert "  # in order\n  silos: [" in found
    assert max(map(len, found.splitlines())) <= 120
