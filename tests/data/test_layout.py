"""Which images each rank holds in the three layouts, and that it looks at nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedclip_plugin.data import ImageSet, remarks, require_images_here, silo_image_set, silo_names, target_image_set
from fedclip_plugin.errors import DataError, RecipeError
from fedclip_plugin.recipe import Recipe

DOMAINS = ("art", "cartoon", "photo", "sketch")


def make_recipe(root: Path | None, silo_count: int = 3, data: dict[str, Any] | None = None, **ours: Any) -> Recipe:
    place = {} if root is None else {"data_root": str(root)}
    return Recipe.checked(
        {
            "common_args": {"training_type": "cross_silo", "random_seed": 4},
            "data_args": {"dataset": "animals"} | (data or {}),
            "train_args": {
                "federated_optimizer": "FedAvg", "client_num_in_total": silo_count,
                "client_num_per_round": silo_count, "comm_round": 1,
            },
            "validation_args": {"frequency_of_the_test": 1},
            "comm_args": {"backend": "MPI"},
            "fedclip_args": {"min_images_per_silo": 1} | place | ours,
        },
        "test",
    )  # fmt: skip


def fill(root: Path, classes: tuple[str, ...] = ("dog", "fox"), each: int = 5) -> Path:
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(each):
            (root / name / f"{index}.png").touch()
    return root


@pytest.fixture
def domains_root(tmp_path: Path) -> Path:
    for domain in DOMAINS:
        fill(tmp_path / domain)
    return tmp_path


def summary(images: ImageSet | None) -> tuple[str, Path, int]:
    assert images is not None
    return images.name, images.root, len(images)


def test_domains_are_sorted_without_the_target(domains_root: Path) -> None:
    recipe = make_recipe(domains_root, target_domain="cartoon")
    assert silo_names(recipe) == ("art", "photo", "sketch")
    assert summary(silo_image_set(recipe, 1)) == ("photo", domains_root / "photo", 10)
    assert summary(target_image_set(recipe)) == ("cartoon", domains_root / "cartoon", 10)


def test_domains_in_the_order_of_the_recipe(domains_root: Path) -> None:
    recipe = make_recipe(domains_root, 2, domains=["sketch", "photo", "art"], target_domain="photo")
    assert silo_names(recipe) == ("sketch", "art")
    assert silo_image_set(recipe, 1).name == "art"


def test_no_target_is_no_image_set(domains_root: Path) -> None:
    assert target_image_set(make_recipe(domains_root, 4)) is None


def test_root_and_known_domains_take_the_place_of_the_recipe_s(domains_root: Path) -> None:
    recipe = make_recipe(None, data={"dataset": "miniature"}, target_domain="sketch")
    assert silo_names(recipe, domains=DOMAINS) == ("art", "cartoon", "photo")
    assert summary(silo_image_set(recipe, 2, domains_root, DOMAINS))[0] == "photo"
    assert summary(target_image_set(recipe, domains_root))[0] == "sketch"
    with pytest.raises(DataError, match=r"name them.*in fedclip_args\.domains"):
        silo_names(recipe)


def test_wrong_number_of_domains_is_refused(domains_root: Path) -> None:
    with pytest.raises(DataError, match=r"client_num_in_total is 2, but there are 3 domains.*art, cartoon, photo"):
        silo_names(make_recipe(domains_root, 2, target_domain="sketch"))


def test_missing_domain_is_refused_with_what_is_there(domains_root: Path) -> None:
    recipe = make_recipe(domains_root, 1, domains=["sketsh", "art"], target_domain="art")
    with pytest.raises(DataError, match=r"no folder 'sketsh'.*did you mean 'sketch'.*art, cartoon, photo, sketch"):
        silo_image_set(recipe, 0)
    with pytest.raises(DataError, match=r"no folder 'pohto'.*did you mean 'photo'"):
        target_image_set(make_recipe(domains_root, 4, target_domain="pohto"))


def test_class_that_only_one_silo_has_is_refused_by_the_recipe_s_list(domains_root: Path) -> None:
    fill(domains_root / "photo", ("owl",))
    recipe = make_recipe(domains_root, target_domain="sketch", classes=["dog", "fox", "cat"])
    assert silo_image_set(recipe, 0).classes == ("dog", "fox", "cat")
    with pytest.raises(DataError, match=r"photo: folder 'owl' .* not one of the classes"):
        silo_image_set(recipe, 2)


def test_too_few_images_are_refused(domains_root: Path) -> None:
    recipe = make_recipe(domains_root, target_domain="sketch", min_images_per_silo=11)
    with pytest.raises(DataError, match=r"art: 10 images in .*at least 11"):
        silo_image_set(recipe, 0)


@pytest.mark.parametrize("data", [{"partition_method": "homo"}, {"partition_method": "hetero", "partition_alpha": 1.0}])
def test_classes_are_shared_out_completely(tmp_path: Path, data: dict[str, Any]) -> None:
    fill(tmp_path, ("cat", "dog", "fox"), 30)
    recipe = make_recipe(tmp_path, 4, data, data_layout="classes", min_images_per_silo=3)
    parts = [silo_image_set(recipe, index) for index in range(4)]
    assert [part.name for part in parts] == list(silo_names(recipe))
    assert sorted(file for part in parts for file in part.files) == sorted(
        f"{name}/{index}.png" for name in ("cat", "dog", "fox") for index in range(30)
    )
    assert {part.classes for part in parts} == {("cat", "dog", "fox")}
    assert min(map(len, parts)) >= 3
    for part in parts:
        assert [part.classes[label] for label in part.labels] == [file.split("/")[0] for file in part.files]
    again = silo_image_set(recipe, 2)
    assert again.files == parts[2].files
    np.testing.assert_array_equal(again.labels, parts[2].labels)


def test_images_are_dealt_out_by_their_own_seed_where_there_is_one(tmp_path: Path) -> None:
    fill(tmp_path, each=20)

    def files(seed: int, **own: int) -> tuple[str, ...]:
        recipe = make_recipe(tmp_path, 2, {"partition_method": "homo", **own}, data_layout="classes")
        seeded = recipe.common_args.model_copy(update={"random_seed": seed})
        return silo_image_set(recipe.model_copy(update={"common_args": seeded}), 0).files

    assert files(0) != files(1)
    assert files(0, partition_seed=0) == files(1, partition_seed=0) == files(0)


def test_classes_with_named_silos(tmp_path: Path) -> None:
    fill(tmp_path, each=20)
    data = {"partition_method": "homo"}
    recipe = make_recipe(tmp_path, 2, data, data_layout="classes", silos=["north", "south"])
    assert silo_names(recipe) == ("north", "south")
    assert silo_image_set(recipe, 1).name == "south"


def test_silos_by_pattern_and_by_folder(tmp_path: Path) -> None:
    for name in ("north", "south", "test"):
        fill(tmp_path / name / "images")
    by_pattern = make_recipe(
        tmp_path / "{silo}" / "images", 2, data_layout="silos", silos=["south", "north"], target_domain="test"
    )
    assert summary(silo_image_set(by_pattern, 0)) == ("south", tmp_path / "south" / "images", 10)
    assert summary(target_image_set(by_pattern)) == ("test", tmp_path / "test" / "images", 10)
    fill(tmp_path / "east")
    by_folder = make_recipe(tmp_path, 1, data_layout="silos", silos=["east"])
    assert summary(silo_image_set(by_folder, 0)) == ("east", tmp_path / "east", 10)
    assert target_image_set(by_folder) is None


def test_pattern_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "{silo}" / "images", 1, data_layout="silos", silos=["north"])
    with pytest.raises(DataError, match=r"north/images does not exist; check the path"):
        silo_image_set(recipe, 0)


def silo_files(tmp_path: Path, *contents: str | None) -> dict[str, Any]:
    paths = [tmp_path / f"silo_{index}.yaml" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        if content is not None:
            path.write_text(content)
    return {"data_silo_config": [str(path) for path in paths]}


def test_silo_s_own_file_names_its_folder_and_no_other_is_read(tmp_path: Path) -> None:
    fill(tmp_path / "mine")
    data = silo_files(tmp_path, None, f"fedclip_args:\n  data_root: {tmp_path / 'mine'}\n")
    recipe = make_recipe(None, 2, data, data_layout="silos", silos=["north", "south"])
    assert summary(silo_image_set(recipe, 1)) == ("south", tmp_path / "mine", 10)
    with pytest.raises(RecipeError, match=r"silo_0\.yaml: cannot be read .No such file.*; data_silo_config lists one"):
        silo_image_set(recipe, 0)


def test_silo_s_own_file_replaces_the_root_of_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "here" / "photo")
    fill(tmp_path / "server" / "art")
    monkeypatch.setenv("IMAGES_AT", str(tmp_path / "here"))
    data = silo_files(tmp_path, "fedclip_args:\n  data_root: $IMAGES_AT\n")
    recipe = make_recipe(tmp_path / "server", 1, data, domains=["photo", "art"], target_domain="art")
    assert summary(silo_image_set(recipe, 0)) == ("photo", tmp_path / "here" / "photo", 10)
    assert summary(target_image_set(recipe)) == ("art", tmp_path / "server" / "art", 10)


BAD_FILES = {
    "no section": ("data_root: /data\n", r"data_root = \"/data\": must hold keys"),
    "empty": ("", "is empty; data_silo_config lists one file per silo"),
    "no key": ("fedclip_args: {}\n", "fedclip_args.data_root: is required; data_silo_config lists one"),
    "other key": (
        "fedclip_args:\n  data_rot: /data\n",
        r"fedclip_args.data_rot = .*no key of a silo's own file, which has fedclip_args.data_root and data_list alone",
    ),
    "one too many": ("fedclip_args:\n  data_root: /d\ntrain_args:\n  epochs: 3\n", "train_args.epochs = 3: is no key"),
    "other section": ("train_args:\n  data_root: /d\n", "train_args.data_root = .*: is no key"),
    "type": ("fedclip_args:\n  data_root: 3\n", "fedclip_args.data_root = 3: must be a path"),
    "yaml": ("fedclip_args: [\n", "malformed YAML"),
    "twice": ("fedclip_args:\n  data_root: /d\n  data_root: /e\n", "'data_root' is already given in line 2"),
    "tag": ("fedclip_args: {data_root: !!bool maybe}\n", "neither true nor false"),
    "alias": ("fedclip_args: &a\n  data_root: *a\n", "stands inside of what it stands for"),
    "variable": ("fedclip_args:\n  data_root: $NO_SUCH_VARIABLE/x\n", r"\$NO_SUCH_VARIABLE is not set"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_silo_s_own_file_is_checked(tmp_path: Path, content: str, message: str) -> None:
    recipe = make_recipe(None, 1, silo_files(tmp_path, content), data_layout="silos", silos=["north"])
    with pytest.raises(RecipeError, match=message):
        silo_image_set(recipe, 0)


def test_a_silo_lists_no_other_silo_s_folder(domains_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (seen.append(str(path)), scandir(path))[1])
    silo_image_set(make_recipe(domains_root, target_domain="sketch"), 0)
    allowed = {str(domains_root), *(str(domains_root / "art" / name) for name in ("", "dog", "fox"))}
    assert set(seen) <= allowed | {str(domains_root / "art")}
    assert str(domains_root / "art" / "dog") in seen


UNFIT: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "a silo with too few": (
        lambda root: [path.unlink() for path in sorted((root / "art").glob("*/*.png"))[:-2]],
        {"min_images_per_silo": 4, "classes": ["dog", "fox"]},
        r"art: 2 images in .*art, and a silo needs at least 4",
    ),
    "too few for three parts": (
        lambda root: [path.unlink() for path in (root / "photo").glob("*/[12345].png")],
        {},
        r"photo: 2 images cannot be split 60/20/20",
    ),
    "a target that is missing": (
        lambda root: shutil.rmtree(root / "sketch"),
        {},
        r"no folder 'sketch' in .*art, cartoon",
    ),
    "one class": (
        lambda root: [shutil.rmtree(root / domain / "fox") for domain in DOMAINS],
        {},
        r"(?s)4 image folders or lists cannot be used.*art: .* has one class folder only, 'dog'.*sketch: ",
    ),
    "classes that differ": (
        lambda root: (root / "cartoon/fox").rename(root / "cartoon/Fox"),
        {},
        r"classes differ: art lacks Fox; cartoon lacks fox; photo lacks Fox; sketch lacks Fox\. Give",
    ),
    "one class spelt in two ways": (
        lambda root: [fill(root / name, ("e\u0301" if name == "photo" else "\u00e9",)) for name in DOMAINS],
        {},
        r"differ: .*\. the folders 'e\\u0301' and '\\xe9' read the same, .*\. Give",
    ),
    "a nested class folder": (
        lambda root: (root / "art/dog/more").mkdir(),
        {},
        "art: class folder .* holds folder 'more'",
    ),
    "a class in another encoding": (
        lambda root: (root / "photo/dog").rename(root / "photo/d\udcf6g"),
        {},
        r"the name of folder .*photo/d\\udcf6g is not valid UTF-8",
    ),
}


@pytest.mark.parametrize(("spoil", "ours", "message"), UNFIT.values(), ids=UNFIT)
def test_what_no_rank_could_start_with_is_known_beforehand(
    domains_root: Path, spoil: Callable[[Path], object], ours: dict[str, Any], message: str
) -> None:
    recipe = make_recipe(domains_root, domains=list(DOMAINS), target_domain="sketch", **ours)
    require_images_here(recipe)
    spoil(domains_root)
    with pytest.raises(DataError, match=message):
        require_images_here(recipe)


def test_one_folder_for_all_is_looked_at_beforehand(tmp_path: Path) -> None:
    fill(tmp_path / "own")
    even = {"data_layout": "classes", "min_images_per_silo": 3}
    require_images_here(make_recipe(tmp_path / "own", 2, {"partition_method": "homo"}, **even))
    with pytest.raises(DataError, match="10 images cannot give each of 4 silos 3"):
        require_images_here(make_recipe(tmp_path / "own", 4, {"partition_method": "homo"}, **even))


def test_folders_that_only_their_silo_may_see_are_not_looked_at(tmp_path: Path) -> None:
    silos = {"data_layout": "silos", "silos": ["a", "b"]}
    require_images_here(make_recipe(None, 2, {"data_silo_config": ["a.yaml", "b.yaml"]}, **silos))
    require_images_here(make_recipe(None, 3, {"dataset": "miniature"}, domains=list(DOMAINS), target_domain="art"))
    with pytest.raises(DataError, match="2 image folders or lists cannot be used"):
        require_images_here(make_recipe(tmp_path, 2, **silos))


def test_what_is_left_out_or_nearly_black_is_said_in_a_line(domains_root: Path) -> None:
    recipe = make_recipe(domains_root, target_domain="art")
    assert remarks(silo_image_set(recipe, 1)) == []
    for name in ("7.heic", "8.GIF", "notes.txt"):
        (domains_root / "photo/dog" / name).touch()
    for path in (domains_root / "photo/fox").glob("*.png"):
        Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(path)
    left_out, dark = remarks(silo_image_set(recipe, 1))
    assert left_out.startswith("photo: 2 files not used (.gif 1, .heic 1), such as dog/7.heic; ")
    assert dark.startswith(
        "photo: 5 images of 10 looked at with samples of more than 8 bits use only the lowest 12, such as fox/"
    )


def test_what_is_left_out_of_a_shared_folder_is_said_once(tmp_path: Path) -> None:
    fill(tmp_path / "own")
    (tmp_path / "own/dog/x.gif").touch()
    recipe = make_recipe(tmp_path / "own", 2, {"partition_method": "homo"}, data_layout="classes")
    assert [len(remarks(silo_image_set(recipe, index))) for index in (0, 1)] == [1, 0]
