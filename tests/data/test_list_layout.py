"""Which images each rank holds where a list names them, or where folders hold a split of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedclip_plugin.data import (
    remarks,
    require_images_here,
    scan_images,
    scan_splits,
    silo_image_set,
    silo_names,
    split_images,
    target_image_set,
)
from fedclip_plugin.errors import DataError, RecipeError
from fedclip_plugin.recipe import Recipe
from tests.data.test_layout import fill, make_recipe, silo_files, summary

EVEN = {"partition_method": "homo"}


def listed(tmp_path: Path, silo_count: int = 2, data: dict[str, Any] | None = None, **ours: Any) -> Recipe:
    ours = {"data_list": str(tmp_path / "images.csv"), "domains": None} | ours
    return make_recipe(None, silo_count, data, data_layout="list", **ours)


def write(tmp_path: Path, silos: str = "north south west", each: int = 10, name: str = "images.csv") -> Path:
    """Write a list of ``each`` images a silo, two of a patient, with their files."""
    lines = ["file,label,silo,patient,fold"]
    for silo in silos.split():
        (tmp_path / silo).mkdir(exist_ok=True)
        for index in range(each):
            (tmp_path / silo / f"{index}.png").touch()
            fold = ("train", "train", "train", "val", "test")[index // 2 % 5]
            lines.append(f"{silo}/{index}.png,{'dog' if index % 2 else 'fox'},{silo},{silo}-{index // 2},{fold}")
    (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / name


def test_silos_are_the_values_of_a_column_without_the_target(tmp_path: Path) -> None:
    write(tmp_path)
    recipe = listed(tmp_path, silo_column="silo", target_domain="south", group_column="patient")
    assert silo_names(recipe) == ("north", "west")
    images = silo_image_set(recipe, 1)
    assert summary(images) == ("west", tmp_path, 10)
    assert images.classes == ("dog", "fox")
    assert all(path.exists() for path in images.paths())
    assert summary(target_image_set(recipe)) == ("south", tmp_path, 10)
    split = split_images(images, 0)
    found = [set(images.groups[part]) for part in (split.train, split.validation, split.test)]
    assert sum(map(len, found)) == 5
    require_images_here(recipe)


def test_silos_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    write(tmp_path)
    recipe = listed(tmp_path, silo_column="silo", silos=["west", "north"])
    assert silo_names(recipe) == ("west", "north")
    assert silo_image_set(recipe, 0).name == "west"


def test_an_own_split_is_kept(tmp_path: Path) -> None:
    write(tmp_path)
    recipe = listed(tmp_path, 3, silo_column="silo", split_column="fold", group_column="patient")
    images = silo_image_set(recipe, 0)
    assert split_images(images, 0).sizes() == {"train": 6, "validation": 2, "test": 2}
    assert split_images(images, 0).validation.tolist() == [6, 7]


def test_the_number_of_silos_must_be_the_list_s(tmp_path: Path) -> None:
    write(tmp_path)
    told = (
        r"client_num_in_total is 2, but there are 3 silos besides the target: north, south, west\. Set .* to 3, or list"
    )
    with pytest.raises(DataError, match=told):
        silo_names(listed(tmp_path, silo_column="silo"))


def test_a_target_or_silo_that_is_not_in_the_list_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=r"has \"nrth\" in column silo \(did you mean 'north'\?\)"):
        target_image_set(listed(tmp_path, 3, silo_column="silo", target_domain="nrth"))
    with pytest.raises(DataError, match=r"(?s)2 image folders or lists cannot be used.*\"a\".*\"b\""):
        require_images_here(listed(tmp_path, silo_column="silo", silos=["a", "b"]))


def test_missing_files_are_an_error_or_bad_images(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "west/3.png").unlink()
    recipe = listed(tmp_path, 3, silo_column="silo")
    with pytest.raises(DataError, match=r"west: 1 of 10 files of list .* the first in line 25: .*west/3\.png"):
        require_images_here(recipe)
    require_images_here(listed(tmp_path, 3, silo_column="silo", on_bad_image="skip"))


def test_too_few_images_or_groups_are_known_beforehand(tmp_path: Path) -> None:
    write(tmp_path, each=4)
    with pytest.raises(DataError, match=r"north: 4 images in .*images\.csv, and a silo needs at least 5"):
        require_images_here(listed(tmp_path, 3, silo_column="silo", min_images_per_silo=5))
    with pytest.raises(DataError, match=r"west: images of 2 groups \(west-0, west-1\) cannot be split"):
        require_images_here(listed(tmp_path, 3, silo_column="silo", group_column="patient"))


def test_labels_that_silos_lack_are_listed_in_the_recipe_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "north south")
    path.write_text(path.read_text() + "\nsouth/x.png,owl,south,s,train")
    (tmp_path / "south/x.png").touch()
    with pytest.raises(DataError, match=r"classes differ: north lacks owl\. Give .* labels, or list the classes"):
        require_images_here(listed(tmp_path, silo_column="silo"))
    recipe = listed(tmp_path, silo_column="silo", classes=["owl", "fox", "dog"])
    require_images_here(recipe)
    np.testing.assert_array_equal(silo_image_set(recipe, 0).labels, [1, 2] * 5)


def test_a_group_in_a_silo_and_the_target_is_said_at_the_start(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("south-2", "north-1"))
    recipe = listed(tmp_path, silo_column="silo", target_domain="south", group_column="patient")
    (note,) = remarks(silo_image_set(recipe, 0))
    assert note.startswith(
        "north: 1 group (column patient) also in other silos or the target, such as north-1 in south"
    )
    assert len(remarks(target_image_set(recipe))) == 1
    assert remarks(silo_image_set(recipe, 1)) == []


@pytest.mark.parametrize("data", [EVEN, {"partition_method": "hetero", "partition_alpha": 2.0}])
def test_a_list_without_silos_is_shared_out_by_whole_groups(tmp_path: Path, data: dict[str, Any]) -> None:
    write(tmp_path, each=40)
    recipe = listed(tmp_path, 3, data, group_column="patient")
    require_images_here(recipe)
    parts = [silo_image_set(recipe, index) for index in range(3)]
    assert [part.name for part in parts] == list(silo_names(recipe)) == ["silo_1", "silo_2", "silo_3"]
    assert sum(map(len, parts)) == len({file for part in parts for file in part.files}) == 120
    assert sum(len(set(part.groups)) for part in parts) == 60
    assert silo_image_set(recipe, 1).files == parts[1].files


def test_a_group_in_two_splits_is_refused_before_the_list_is_shared_out(tmp_path: Path) -> None:
    path = write(tmp_path, each=40)
    path.write_text(path.read_text().replace("south-3", "north-1"))
    with pytest.raises(DataError, match="animals: group 'north-1' has images in train and validation"):
        require_images_here(listed(tmp_path, 2, EVEN, group_column="patient", split_column="fold"))


def test_a_list_per_silo(tmp_path: Path) -> None:
    for name in ("north", "south", "test"):
        write(tmp_path, name, name=f"{name}.csv")
    recipe = listed(tmp_path, silos=["south", "north"], data_list=str(tmp_path / "{silo}.csv"), target_domain="test")
    assert summary(silo_image_set(recipe, 0)) == ("south", tmp_path, 10)
    assert {file.split("/")[0] for file in silo_image_set(recipe, 1).files} == {"north"}
    assert summary(target_image_set(recipe)) == ("test", tmp_path, 10)
    rooted = listed(tmp_path, 1, silos=["a"], data_list=str(tmp_path / "{silo}.csv"), data_root="/srv/{silo}")
    (tmp_path / "a.csv").write_text("file,label\nx,1\ny,2\n")
    with pytest.raises(DataError, match=r"first in line 2: /srv/a/x"):
        silo_image_set(rooted, 0)


def test_a_silo_s_own_file_names_its_list(tmp_path: Path) -> None:
    write(tmp_path, "mine")
    own = f"fedclip_args:\n  data_list: {tmp_path}/images.csv\n  data_root: {tmp_path}\n"
    data = silo_files(tmp_path, own, "fedclip_args: {data_root: /x}")
    recipe = listed(tmp_path, 2, data, data_list=None, silos=["north", "south"])
    assert summary(silo_image_set(recipe, 0)) == ("north", tmp_path, 10)
    with pytest.raises(DataError, match=r"silo_1\.yaml gives no list of its silo: give fedclip_args\.data_list"):
        silo_image_set(recipe, 1)
    by_column = listed(tmp_path, 2, data, silo_column="silo", silos=["mine", "south"])
    assert summary(silo_image_set(by_column, 0)) == ("mine", tmp_path, 10)
    folders = make_recipe(None, 2, data, data_layout="silos", silos=["north", "south"])
    with pytest.raises(DataError, match="data_list, which is only for data_layout: list, not silos"):
        silo_image_set(folders, 0)
    data = silo_files(tmp_path, "fedclip_args: {data_list: 3}")
    with pytest.raises(RecipeError, match=r"data_list = 3: must be a path"):
        silo_image_set(listed(tmp_path, 1, data, data_list=None, silos=["north"]), 0)


def splits(root: Path, names: tuple[str, ...] = ("Train", "valid", "test")) -> Path:
    for name, each in zip(names, (12, 4, 4), strict=False):
        fill(root / name, each=each)
    return root


def test_split_folders_are_shared_out_and_kept(tmp_path: Path) -> None:
    recipe = make_recipe(splits(tmp_path), 2, EVEN, data_layout="splits")
    parts = [silo_image_set(recipe, index) for index in range(2)]
    for part in parts:
        assert part.classes == ("dog", "fox")
        assert split_images(part, 0).sizes() == {"train": 12, "validation": 4, "test": 4}
        assert all(path.exists() for path in part.paths())
    assert len({file for part in parts for file in part.files}) == 40
    require_images_here(recipe)


def test_folders_of_splits_are_not_taken_for_domains(tmp_path: Path) -> None:
    splits(tmp_path)
    told = r"look like splits of one data set, not like domains: Train, test, valid\. .*layout: splits .*args\.domains"
    for recipe in (make_recipe(tmp_path, 3), make_recipe(tmp_path, 2, target_domain="test")):
        with pytest.raises(DataError, match=told):
            silo_names(recipe)
        with pytest.raises(DataError, match=told):
            require_images_here(recipe)
    by_name = make_recipe(tmp_path, 2, domains=["Train", "valid", "test"], target_domain="test")
    assert silo_names(by_name) == ("Train", "valid")
    require_images_here(by_name)


def test_a_silo_s_folder_may_hold_its_split(tmp_path: Path) -> None:
    for silo in ("north", "south"):
        splits(tmp_path / silo)
    fill(tmp_path / "west")
    recipe = make_recipe(tmp_path, 3, data_layout="silos", silos=["north", "south", "west"])
    require_images_here(recipe)
    assert split_images(silo_image_set(recipe, 0), 0).sizes() == {"train": 24, "validation": 8, "test": 8}
    assert silo_image_set(recipe, 2).splits is None


def test_classes_that_are_called_as_splits_are_classes(tmp_path: Path) -> None:
    assert scan_images(fill(tmp_path, ("train", "test")), "x").classes == ("test", "train")


BAD_SPLITS = {
    "one is missing": (("train", "test"), r"x: .* has no validation split, it holds: test, train\. Move some"),
    "another folder": (("train", "val", "test", "extra"), r"x: .* holds extra beside the splits; a split is"),
    "two of one": (("train", "val", "valid", "test"), r"x: .* has two folders for validation, val, valid; put"),
}


@pytest.mark.parametrize(("names", "message"), BAD_SPLITS.values(), ids=BAD_SPLITS)
def test_splits_that_cannot_be_used_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    for name in names:
        fill(tmp_path / name)
    with pytest.raises(DataError, match=message):
        scan_splits(tmp_path, "x")


def test_a_class_may_be_absent_in_a_split(tmp_path: Path) -> None:
    fill(splits(tmp_path) / "Train", ("owl",))
    assert scan_splits(tmp_path, "x").classes == ("dog", "fox", "owl")


def test_one_class_in_all_splits_is_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        fill(tmp_path / name, ("dog",))
    with pytest.raises(DataError, match="have fewer than two class folders: dog"):
        scan_splits(tmp_path, "x")


def test_class_folders_with_a_split_inside_get_the_layout_named(tmp_path: Path) -> None:
    recipe = make_recipe(splits(tmp_path), 2, EVEN, data_layout="classes")
    with pytest.raises(DataError, match=r"if 'Train' is one of several splits, set fedclip_args\.data_layout: splits"):
        silo_image_set(recipe, 0)
