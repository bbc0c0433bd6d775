"""``fedclip init``: what it writes is valid, fits the folder and keeps the comments; what does not fit is named."""

import shutil
from pathlib import Path

import pytest

from fedclip_plugin.cli.main import main
from fedclip_plugin.data import require_images_here
from fedclip_plugin.recipe import load_recipe

IMAGES = 12
SILOS = ("north", "south", "west side")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three folders of two classes; no file is an image, as none is opened."""
    monkeypatch.chdir(tmp_path)
    for silo in SILOS:
        for label in ("dog", "house"):
            place = tmp_path / "data" / silo / label
            place.mkdir(parents=True)
            for number in range(IMAGES):
                (place / f"{number}.png").touch()
    return tmp_path / "data"


def written(capsys, *words):
    """Run the command, and return the recipe that it wrote and what it said."""
    assert main(["init", *words]) == 0
    told = capsys.readouterr()
    Path("mine.yaml").write_text(told.out, encoding="utf-8")
    assert main(["validate", "mine.yaml"]) == 0
    capsys.readouterr()
    recipe = load_recipe("mine.yaml")
    require_images_here(recipe)
    return recipe, told


@pytest.mark.usefixtures("folder")
def test_a_silo_a_folder_where_none_is_held_out(capsys):
    recipe, told = written(capsys, "data")
    own = recipe.fedclip_args
    assert (own.data_layout, own.silos, own.target_domain, own.classes) == ("silos", SILOS, None, None)
    assert (recipe.train_args.client_num_in_total, str(own.data_root)) == (3, "data")
    assert (own.method, own.augmented_views) == ("sigmoid_gate", 4) and "learning rate" not in told.err
    assert "72 images of 2 classes (north 24, south 24, west side 24)" in told.out
    assert "# averaging; by what weights, fedclip_args.weighting says" in told.out
    assert "look through all of them with: fedclip check data" in told.err


@pytest.mark.usefixtures("folder")
def test_the_target_is_held_out_and_method_and_backbone_are_set(capsys):
    recipe, told = written(capsys, "data", "--target", "north", "--method", "lora", "--backbone", "clip-tiny")
    own = recipe.fedclip_args
    assert (own.data_layout, own.target_domain, recipe.train_args.client_num_in_total) == ("domains", "north", 2)
    assert (own.method, own.backbone, own.augmented_views) == ("lora", "clip-tiny", 0)
    assert "hf download" not in told.out and "hf download openai/clip" in written(capsys, "data")[1].out
    assert "note: the learning rate is that of gates; studies/miniature tells which suit lora" in told.err


def test_one_folder_is_shared_out(capsys, folder):
    recipe, told = written(capsys, str(folder / "north"), "--method", "prompt")
    assert recipe.fedclip_args.data_layout == "classes"
    assert recipe.train_args.client_num_in_total == 2  # of 24 images, and 10 at least a silo
    assert "24 images of 2 classes\n" in told.out


def test_classes_that_a_silo_lacks_are_listed(capsys, folder):
    (folder / "south" / "dog").rename(folder / "south" / "cat")
    recipe, told = written(capsys, "data")
    assert recipe.fedclip_args.classes == ("cat", "dog", "house")
    assert "fedclip_args.classes lists them all" in told.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["data", "--target", "nort"],
            "has no domain or silo 'nort' (did you mean 'north'?); it has north, south, west side",
        ),
        (["data/north", "--target", "dog"], "has no domains or silos, so none can be held out"),
        (["data", "--method", "fedclp"], "(did you mean 'fedclip'?)"),
        (["data", "--backbone", "tiny"], "must be 'clip-tiny', a hub name"),
        (["nowhere"], "folder nowhere does not exist"),
        (["$data"], "$data: a recipe reads ~, $NAME and {silo} in a path as what they stand for"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_does_not_fit_is_named_and_nothing_is_written(capsys, words, told):
    assert main(["init", *words]) == 2
    found = capsys.readouterr()
    assert told in found.err and not found.out


def test_a_folder_on_which_no_federation_could_start_is_refused(capsys, folder):
    (folder / "south" / "dog" / "more").mkdir()
    assert main(["init", "data"]) == 2
    assert "holds folder 'more'" in capsys.readouterr().err
    shutil.rmtree(folder / "south" / "dog")
    shutil.rmtree(folder / "north" / "dog")
    shutil.rmtree(folder / "west side")
    assert main(["init", "data"]) == 2
    assert "has one class folder only, 'house'" in capsys.readouterr().err
    (folder / "north" / "cat").mkdir()
    for image in list((folder / "north" / "house").iterdir())[3:]:
        image.unlink()
    assert main(["init", "data", "--target", "south"]) == 2
    assert "north: 3 images" in capsys.readouterr().err
