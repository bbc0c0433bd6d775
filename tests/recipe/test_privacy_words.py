"""What a recipe's privacy comes to is said where it is checked, and where it runs."""

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe
from fedclip_plugin.recipe.privacy_words import privacy_words, secure_sums_words

MINIATURE = "miniature/clip_tiny_fedclip"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            ["dp_target_epsilon=8"],
            "epsilon 8 at most, delta 1e-05, gradients clipped to 1; the loss is the cross entropy",
        ),
        (
            ["dp_noise_multiplier=2", "dp_delta=1e-6", "dp_clip=0.5"],
            "delta 1e-06, noise multiplier 2, gradients clipped to 0.5",
        ),
        (["dp_target_epsilon=3", "method=sigmoid_gate"], "of each training image in its silo: epsilon 3 at most"),
    ],
)
def test_the_words_tell_guarantee_noise_and_loss(keys, words):
    told = privacy_words(load_recipe(find_recipe(MINIATURE), [f"fedclip_args.{key}" for key in keys]))
    assert told is not None and words in told


def test_of_sums_no_gradient_is_told_and_without_privacy_nothing():
    keys = ("dp_target_epsilon=1", "min_class_count=1", "augmented_views=0")
    ridge = load_recipe(find_recipe("miniature/clip_tiny_ridge"), [f"fedclip_args.{key}" for key in keys])
    told = privacy_words(ridge)
    assert told is not None and told.endswith("noise is on the sums")
    assert privacy_words(load_recipe(find_recipe(MINIATURE))) is None


def test_the_resolved_recipe_has_the_loss_that_privacy_takes():
    private = load_recipe(find_recipe(MINIATURE), ["fedclip_args.dp_target_epsilon=8"])
    assert "loss: class_cross_entropy" in private.to_yaml()
    assert Recipe.from_flat(private.flat()) == private
    assert load_recipe(find_recipe(MINIATURE)).fedclip_args.loss is None
    keys = ("dp_target_epsilon=1", "min_class_count=1", "augmented_views=0")
    ridge = load_recipe(find_recipe("miniature/clip_tiny_ridge"), [f"fedclip_args.{key}" for key in keys])
    assert ridge.fedclip_args.loss is None, "of sums there is no loss"


def test_validate_says_so(capsys):
    assert main(["validate", MINIATURE, "--set", "fedclip_args.dp_target_epsilon=8"]) == 0
    assert "the loss is the cross entropy of each image over all classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["secure_sums=true"], "the total of the silos' updates and none by itself"),
        (["secure_sums=true", "on_missing=redo"], "and none by itself; a round may be masked again"),
    ],
)
def test_the_words_tell_what_the_server_reads(keys, words, capsys):
    changes = [f"fedclip_args.{key}" for key in keys]
    told = secure_sums_words(load_recipe(find_recipe(MINIATURE), changes))
    assert told is not None and words in told
    assert secure_sums_words(load_recipe(find_recipe(MINIATURE))) is None
    assert main(["validate", MINIATURE, *(word for change in changes for word in ("--set", change))]) == 0
    assert f"  {told}\n" in capsys.readouterr().out
