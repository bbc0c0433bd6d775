"""``fedclip partition``: who has which images, as a table, as JSON and as a picture."""

import json

import pytest

from fedclip_miniature import CLASSES
from fedclip_plugin.cli.main import main

SIMULATION = {
    "common_args__training_type": "simulation",
    "comm_args__backend": "sp",
    "train_args__client_num_in_total": 6,
    "train_args__client_num_per_round": 2,
    "data_args__partition_method": "classes",
    "data_args__classes_per_client": 4,
    "fedclip_args__silos_per_domain": 2,
}


def fill(root, classes, each):
    for number in range(classes):
        (root / f"class_{number:02d}").mkdir(parents=True)
        for index in range(each):
            (root / f"class_{number:02d}" / f"{index}.png").touch()


@pytest.fixture
def pool(workshop, tmp_path):
    """Return a function that writes a recipe for a folder of classes that simulated clients share."""

    def make(clients, classes, each, **changes):
        fill(tmp_path / "pool", classes, each)
        one_folder = {
            "data_args__dataset": "own",
            "data_args__partition_method": "homo",
            "train_args__client_num_in_total": clients,
            "train_args__client_num_per_round": 1,
            "fedclip_args__data_layout": "classes",
            "fedclip_args__data_root": str(tmp_path / "pool"),
            "fedclip_args__domains": None,
            "fedclip_args__target_domain": None,
            "fedclip_args__images_per_class": None,
        }
        simulated = {"common_args__training_type": "simulation", "comm_args__backend": "sp"}
        return str(workshop.recipe(f"pool_{tmp_path.name}", **simulated | one_folder | changes))

    return make


def test_a_simulation_of_the_miniature_has_a_row_a_client(workshop, capsys):
    assert main(["partition", str(workshop.recipe("parted", **SIMULATION))]) == 0
    head, rule, *rows, images, classes = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == f"client {' '.join(CLASSES)} images train validation test"
    assert set(rule) == {"-"}
    names = [f"{domain}_{number}" for domain in ("art_painting", "cartoon", "photo") for number in (1, 2)]
    assert [row.split()[0] for row in rows] == [*names, "all"]
    assert " ".join(rows[-1].split()) == "all 6 36 36 36 36 36 36 36 252 150 48 48"
    assert all(row.split().count("-") == 3 for row in rows[:-1])
    assert images.startswith("images a client: ") and classes == "classes a client: 4 to 4; quartiles 4, 4, 4"


def test_a_cross_silo_recipe_has_a_row_a_silo_and_shots_in_its_training_splits(workshop, capsys):
    recipe = str(workshop.recipe("parted_silos"))
    assert main(["partition", recipe, "--set", "fedclip_args.shots=5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [client["name"] for client in told["clients"]] == ["art_painting", "cartoon", "photo"]
    assert all(set(client["images"].values()) == {12} for client in told["clients"])
    assert [client["train"] for client in told["clients"]] == [35] * 3
    assert told["quartiles"] == {"images": [84.0] * 5, "classes": [7.0] * 5}


def test_of_many_clients_and_classes_some_are_shown_and_all_when_asked_for(pool, capsys):
    recipe = pool(50, 25, 20)
    assert main(["partition", recipe]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["client", "classes", "images", "train", "validation", "test"]
    assert len(lines) == 2 + 20 + 1 + 3
    assert lines[-3] == "--all shows 30 more clients and 25 classes in columns"
    assert lines[-2] == "images a client: 10 to 10; quartiles 10, 10, 10"
    assert main(["partition", recipe, "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 50 + 1 + 2 and "class_24" in lines[0]


@pytest.mark.parametrize("suffix", ["svg", "PNG"])
def test_the_picture_is_written(pool, tmp_path, capsys, suffix):
    picture = tmp_path / f"clients.{suffix}"
    assert main(["partition", pool(4, 2, 20), "--picture", str(picture)]) == 0
    assert picture.read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")
    assert capsys.readouterr().out.startswith("client")


BAD = {
    "a picture of another kind": (["--picture", "x.gif"], "--picture x.gif must end in .svg or .png"),
    "a picture in no folder": (["--picture", "no/folder/x.svg"], "no/folder/x.svg"),
    "a minimum": (["--set", "fedclip_args.min_images_per_silo=11"], "40 images cannot give each of 4 silos 11"),
    "shots": (["--set", "fedclip_args.shots=9"], "4 of 4 clients cannot be used"),
    "a class of nobody": (["--set", "fedclip_args.classes=[class_00,class_01,gnu]"], "1 of 3 classes have no image of"),
    "a recipe": (["--set", "data_args.partition_method=iid"], "must be 'homo', 'hetero', 'classes', 'shards' or"),
}


@pytest.mark.parametrize(("words", "told"), BAD.values(), ids=BAD)
def test_what_cannot_be_shown_is_refused_with_two(pool, tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    assert main(["partition", pool(4, 2, 20), *words]) == 2
    assert told in capsys.readouterr().err
