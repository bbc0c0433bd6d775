"""check_images on lists and on folders of splits: what is told of them, and that what they propose works."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fedclip_plugin.data import Columns, check_images, require_images_here
from fedclip_plugin.recipe import find_recipe
from tests.data.test_folder_check import add_images, advice, found_by, save

ALL = Columns("image", "class", "hospital", "patient", "fold")
FOLDS = ("train", "train", "train", "val", "test")


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    """Three hospitals with two images of each of ten patients, in a list."""
    lines, seed = ["image;class;hospital;patient;fold"], 0
    for hospital in ("north", "s\u00fcd", "west"):
        for index in range(20):
            seed += 1
            name = f"{hospital}/{index}.png"
            save(tmp_path / name, seed)
            patient = f"{hospital}-{index // 2}"
            lines.append(f"{name};{'benign' if index % 2 else 'malign'};{hospital};{patient};{FOLDS[index // 2 % 5]}")
    (tmp_path / "images.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    return tmp_path / "images.csv"


def test_a_clean_list(hospitals: Path) -> None:
    report = check_images(hospitals, ALL)
    assert report.ok, report.to_text()
    assert (report.layout, report.classes) == ("list", ("benign", "malign"))
    assert report.counts["s\u00fcd"] == {"benign": 10, "malign": 10}
    text = report.to_text()
    assert "images.csv: layout list, 3 silos, 2 classes, 60 images" in text
    assert "Groups (column patient): 30, of up to 2 images" in text
    assert "Splits (column fold): train 36, validation 12, test 12" in text


def test_a_list_without_silos(hospitals: Path) -> None:
    report = check_images(hospitals, Columns("image", "class"))
    assert report.ok
    assert report.counts == {"images": {"benign": 30, "malign": 30}}
    assert "images.csv: layout list, 2 classes, 60 images" in report.to_text()


PROPOSED = {
    "silos": (ALL, [(["north", "s\u00fcd", "west"], None), (["north", "s\u00fcd"], "west")]),
    "silos alone": (Columns("image", "class", "hospital"), [(["north", "s\u00fcd", "west"], None)] * 1),
    "no silos": (Columns("image", "class"), [(["silo_1", "silo_2", "silo_3"], None)] * 2),
    "groups and splits": (
        Columns("image", "class", None, "patient", "fold"),
        [(["silo_1", "silo_2", "silo_3"], None)] * 2,
    ),
}


@pytest.mark.parametrize(("columns", "expected"), PROPOSED.values(), ids=PROPOSED)
def test_what_it_proposes_validates_and_finds_the_images(hospitals: Path, columns: Columns, expected: Any) -> None:
    found = advice(check_images(hospitals, columns).to_text())
    assert [found_by(command)[1:] for _, _, command in found][: len(expected)] == expected
    for name, keys, command in found:
        recipe = found_by(command)[0]
        require_images_here(recipe)
        assert find_recipe(name).exists()
        assert Columns.from_keys(vars(recipe.fedclip_args)) == columns
        plain = recipe.model_dump(mode="json")
        assert all(plain[section][key] == value for section, values in keys.items() for key, value in values.items())


def test_another_root_is_in_what_it_proposes(hospitals: Path) -> None:
    moved = shutil.move(hospitals, hospitals.parent / "west" / "list.csv")
    report = check_images(Path(moved), ALL, hospitals.parent)
    assert report.ok
    for _, _, command in advice(report.to_text()):
        require_images_here(found_by(command)[0])


def test_a_silo_that_lacks_a_label_gets_the_classes_proposed(hospitals: Path) -> None:
    lines = hospitals.read_text(encoding="utf-8-sig").splitlines()
    kept = [line for line in lines if not ("west" in line and "benign" in line)]
    hospitals.write_text("\n".join(kept), encoding="utf-8")
    report = check_images(hospitals, Columns("image", "class", "hospital"))
    assert report.problems == (
        "west: lacks the classes benign of other silos; correct labels, or list all classes in fedclip_args.classes",
    )
    for _, keys, command in advice(report.to_text()):
        assert keys["fedclip_args"]["classes"] == ["benign", "malign"]
        found_by(command)


def test_groups_in_two_silos_or_splits_are_problems(hospitals: Path) -> None:
    text = hospitals.read_text(encoding="utf-8-sig")
    hospitals.write_text(text.replace("north-3", "west-2"), encoding="utf-8")
    told = "\n".join(check_images(hospitals, ALL).problems)
    assert "group west-2 is in silos north and west; what one trains on, another is tested on" in told
    hospitals.write_text(text.replace("north-3", "north-2"), encoding="utf-8")
    told = "\n".join(check_images(hospitals, ALL).problems)
    assert "north: group 'north-2' has images in train and validation" in told


def test_a_silo_that_cannot_be_split_is_a_problem(hospitals: Path) -> None:
    text = hospitals.read_text(encoding="utf-8-sig").replace("val", "train")
    hospitals.write_text(text, encoding="utf-8")
    told = check_images(hospitals, ALL).problems
    assert len(told) == 3
    assert told[0].startswith("north: its own split has no validation images")


def test_missing_files_and_copies_are_told(hospitals: Path) -> None:
    folder = hospitals.parent
    (folder / "north/0.png").unlink()
    shutil.copy(folder / "west/0.png", folder / "north/1.png")
    shutil.copy(folder / "west/2.png", folder / "west/3.png")
    shutil.copy(folder / "west/4.png", folder / "west/18.png")
    report = check_images(hospitals, ALL)
    assert [file for file, _ in report.unreadable] == ["north/0.png"]
    (fault,) = report.problems
    assert re.search(
        r"north: 1 of 20 files of list .* do not exist, the first in line 2: .*north/0\.png\. Correct", fault
    )
    assert report.leaks == (("north/1.png", "west/0.png"), ("west/4.png", "west/18.png"))
    text = report.to_text()
    assert "Unreadable (1):\n  north/0.png: No such file or directory" in text
    assert "Equal files in different silos or splits (2):\n  north/1.png = west/0.png" in text
    assert "Equal files (1):\n  west/3.png = west/2.png" in text


def test_one_label_is_a_problem(hospitals: Path) -> None:
    hospitals.write_text(hospitals.read_text(encoding="utf-8-sig").replace("malign", "benign"), encoding="utf-8")
    report = check_images(hospitals, Columns("image", "class"))
    assert "has one label only" in report.problems[0]
    assert report.proposals() == []


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    for number, part in enumerate(("test", "train", "val")):
        for label in ("dog", "fox"):
            for index in range(12):
                save(tmp_path / "pets" / part / label / f"{index}.png", 100 * number + index + 50 * (label == "fox"))
    return tmp_path / "pets"


def test_folders_of_splits_are_asked_about(splits: Path) -> None:
    report = check_images(splits)
    assert report.ok
    text = report.to_text()
    assert "layout splits, 3 splits, 2 classes, 72 images" in text
    assert "The folders look like splits of one data set (test, train, val). Which are they? What fits" in text
    found = advice(text)
    layouts = [keys["fedclip_args"]["data_layout"] for _, keys, _ in found]
    assert layouts == ["splits", "splits", "domains"]
    for _, _, command in found:
        require_images_here(found_by(command)[0])
    assert found_by(found[2][2])[1] == ["test", "train", "val"]


def test_a_file_in_two_splits_is_told(splits: Path) -> None:
    shutil.copy(splits / "train/dog/1.png", splits / "test/dog/99.png")
    assert "Equal files in different splits (1):\n  test/dog/99.png = train/dog/1.png" in check_images(splits).to_text()


def test_splits_that_lack_a_part_are_only_proposed_as_domains(splits: Path) -> None:
    shutil.rmtree(splits / "val")
    report = check_images(splits)
    text = report.to_text()
    assert [keys["fedclip_args"]["data_layout"] for _, keys, _ in advice(text)] == ["domains"]
    assert "As splits they cannot be used as they are. images: " in text
    assert "has no validation split, it holds: test, train. Move some images into validation/<class>/" in text


def test_a_domain_may_hold_splits(splits: Path) -> None:
    shutil.move(splits, splits.parent / "root" / "north")
    for label in ("dog", "fox"):
        add_images(splits.parent / "root" / "south" / label)
    report = check_images(splits.parent / "root")
    assert report.ok, report.to_text()
    assert report.counts == {"north": {"dog": 36, "fox": 36}, "south": {"dog": 10, "fox": 10}}
    for _, _, command in advice(report.to_text()):
        require_images_here(found_by(command)[0])
    shutil.rmtree(splits.parent / "root/north/val")
    assert "north: " in check_images(splits.parent / "root").problems[0]


def test_a_folder_per_silo_is_looked_into(hospitals: Path) -> None:
    text = hospitals.read_text(encoding="utf-8-sig")
    for silo in ("north", "s\u00fcd", "west"):
        text = text.replace(f"{silo}/", "")
    hospitals.write_text(text, encoding="utf-8")
    report = check_images(hospitals, ALL, hospitals.parent / "{silo}")
    assert report.ok, report.to_text()
    assert report.counts["west"] == {"benign": 10, "malign": 10}
    for _, _, command in advice(report.to_text()):
        require_images_here(found_by(command)[0])
