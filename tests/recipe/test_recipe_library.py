"""The recipes that come along: all valid, all with a header, all found by name."""

import re
from pathlib import Path

import pytest
import yaml

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.methods import METHODS
from fedclip_plugin.recipe import (
    Recipe,
    default_run_dir,
    find_either,
    find_recipe,
    load_recipe,
    recipe_files,
    recipe_name,
    recipe_title,
)

FILES = recipe_files()
NAMES = [recipe_name(file) for file in FILES]


def test_the_folder_has_what_the_readme_promises():
    sets = ("pacs", "vlcs", "office_home", "domainnet")
    promised = {f"{name}/vit_b32_fedclip{end}" for name in sets for end in ("", "_paper")}
    promised |= {f"miniature/clip_tiny_fedclip{end}" for end in ("", "_paper")}
    promised |= {f"miniature/clip_tiny_{method}" for method in ("text_lora", "prompt_generator")}
    promised |= {f"simulation/{name}" for name in ("clip_tiny_fedclip", "vit_b32_fedclip_cifar100")}
    promised |= {
        f"own_images/vit_b32_sigmoid_gate_{kind}" for kind in ("iid", "dirichlet", "domains", "silo_folders", "list")
    }

    assert promised <= set(NAMES)


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_every_recipe_is_valid_and_survives_a_round_trip(file, tmp_path):
    recipe = load_recipe(file)
    copied = tmp_path / "resolved.yaml"
    copied.write_text(recipe.to_yaml())

    assert load_recipe(copied) == recipe == Recipe.from_flat(recipe.flat())
    assert recipe.fedclip_args.method in METHODS
    assert recipe.silo_names() is not None


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_every_recipe_has_the_header(file):
    text = file.read_text()
    header = text.split("\n\n", 1)[0]

    assert recipe_title(file).startswith(f"{METHODS[load_recipe(file).fedclip_args.method].title} on ")
    assert f"fedclip launch recipes/{recipe_name(file)}.yaml" in header
    for word in ("data:", "override:", "expected:", "wall time:", "hardware:"):
        assert word in header.lower()
    overrides = re.findall(r"""--set (?:"([^"]*)"|'([^']*)'|(\S+))""", header)
    assert overrides
    given = ["".join(groups).strip(")") for groups in overrides]
    assert isinstance(load_recipe(file, given), Recipe)


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_recipes_work_with_fedml_s_own_loader(file):
    keys = {key for section in yaml.safe_load(file.read_text()).values() for key in section}

    assert {"training_type", "backend", "dataset", "federated_optimizer", "client_num_in_total"} <= keys
    assert {"client_num_per_round", "comm_round", "frequency_of_the_test"} <= keys


def test_the_paper_s_numbers_stand_in_its_recipes():
    for file in FILES:
        train = load_recipe(file).train_args
        if file.stem.endswith("_paper"):
            assert (train.learning_rate, train.weight_decay, train.comm_round) == (5e-5, 0.2, 200)
        else:
            assert train.weight_decay == 0


@pytest.mark.parametrize("name", ["miniature/clip_tiny_fedclip", "recipes/miniature/clip_tiny_fedclip.yaml"])
def test_a_recipe_is_found_by_name_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert recipe_name(find_recipe(name)) == "miniature/clip_tiny_fedclip"


def test_a_file_of_the_user_s_is_found_by_path(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("x: 1\n")

    assert find_recipe(mine) == mine
    assert recipe_title(mine) == ""
    assert default_run_dir(mine) == Path("runs/mine")


def test_an_unknown_recipe_gets_the_closest_name():
    with pytest.raises(RecipeError, match=r"did you mean 'miniature/clip_tiny_fedclip'\?"):
        find_recipe("minature/clip_tiny_fedclp")


def test_recipes_that_share_a_name_get_run_folders_of_their_own():
    folders = [default_run_dir(file) for file in FILES]

    assert len(set(folders)) == len(folders)
    assert default_run_dir(find_recipe("pacs/vit_b32_fedclip")) == Path("runs/pacs_vit_b32_fedclip")


@pytest.mark.parametrize("read", [find_recipe, find_either])
def test_an_empty_name_is_not_the_folder_that_is_worked_in(read):
    with pytest.raises(RecipeError, match="no such file, and no recipe"):
        read("")


def test_what_is_no_path_is_no_recipe():
    with pytest.raises(RecipeError, match="recipe is a NoneType; it is a path"):
        load_recipe(None)
