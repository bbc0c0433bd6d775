"""scan_folder and ImageSet: what is listed, in which order, and what is refused; no image is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedclip_plugin.data import check_images, list_domains, scan_folder
from fedclip_plugin.data.image_folders import find_images
from fedclip_plugin.errors import DataError


def fill(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_lists_classes_and_images_by_code_point(tmp_path: Path) -> None:
    fill(tmp_path, "dog-2/b.png", "dog/b.JPG", "dog/a10.jpeg", "dog/a9.webp", "dog/B.bmp", "Zebra/ü.png")
    images = scan_folder(tmp_path, "photo")
    assert images.classes == ("Zebra", "dog", "dog-2") == list_domains(tmp_path)
    assert images.files == (
        "Zebra/ü.png", "dog/B.bmp", "dog/a10.jpeg", "dog/a9.webp", "dog/b.JPG", "dog-2/b.png",
    )  # fmt: skip
    np.testing.assert_array_equal(images.labels, [0, 1, 1, 1, 1, 2])
    assert images.labels.dtype == np.int64
    assert (images.name, images.root, len(images)) == ("photo", tmp_path, 6)
    assert images.paths()[0] == tmp_path / "Zebra" / "ü.png"


def test_subset_keeps_order_classes_and_labels(tmp_path: Path) -> None:
    images = scan_folder(fill(tmp_path, "a/1.png", "a/2.png", "b/3.png"), "x")
    part = images.subset(np.array([2, 0]))
    assert part.files == ("b/3.png", "a/1.png")
    assert part.labels.tolist() == [1, 0]
    assert part.classes == images.classes
    assert len(images.subset([])) == 0
    with pytest.raises(IndexError):
        images.subset([3])


def test_recipe_list_rules_labels_and_allows_a_missing_or_empty_class(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "fox").mkdir()
    images = scan_folder(tmp_path, "x", classes=["fox", "dog", "owl", "cat"])
    assert images.classes == ("fox", "dog", "owl", "cat")
    assert images.files == ("cat/1.png", "dog/2.png")
    assert images.labels.tolist() == [3, 1]


def test_hidden_files_and_junk_are_skipped_and_others_are_told(tmp_path: Path) -> None:
    fill(
        tmp_path, "dog/1.png", "dog/.DS_Store", "dog/Thumbs.db", "dog/._1.png", "dog/desktop.ini",
        "dog/notes.txt", "dog/2.gif", "fox/3.png", ".git/x.png", "__MACOSX/dog/1.png", "list.csv", "loose.png",
    )  # fmt: skip
    images = scan_folder(tmp_path, "x")
    assert images.classes == ("dog", "fox")
    assert images.files == ("dog/1.png", "fox/3.png")
    assert images.ignored == ("list.csv", "loose.png", "dog/2.gif", "dog/notes.txt")


def test_links_are_followed_and_a_dead_link_counts_as_an_image(tmp_path: Path) -> None:
    fill(tmp_path, "store/1.png", "store/animals/2.png", "root/dog/0.png")
    (tmp_path / "root/dog/1.png").symlink_to(tmp_path / "store/1.png")
    (tmp_path / "root/dog/dead.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "root/fox").symlink_to(tmp_path / "store/animals")
    images = scan_folder(tmp_path / "root", "x")
    assert images.files == ("dog/0.png", "dog/1.png", "dog/dead.png", "fox/2.png")


@pytest.mark.parametrize("target", ["/gone/away", "fox"])
def test_a_folder_that_is_a_link_to_nowhere_is_named(tmp_path: Path, target: str) -> None:
    fill(tmp_path, "dog/1.png", "cat/1.png", "notes.txt")
    (tmp_path / "list.csv").symlink_to("/gone/list.csv")
    assert len(scan_folder(tmp_path, "x")) == 2
    (tmp_path / "fox").symlink_to(target)
    message = f"fox is a link to {target}, which is not there, so a folder is missing"
    for look in (list_domains, lambda root: scan_folder(root, "x")):
        with pytest.raises(DataError, match=message):
            look(tmp_path)
    assert [message in problem for problem in check_images(tmp_path).problems] == [True]


def test_list_domains_sorts_and_skips_files(tmp_path: Path) -> None:
    fill(tmp_path, "sketch/dog/1.png", "Art/dog/1.png", ".cache/x", "readme.md")
    assert list_domains(tmp_path) == ("Art", "sketch")


REFUSED = {
    "missing": ((), "gone", None, r"gone does not exist; check the path"),
    "file": (("gone",), "gone", None, "is a file; a folder is needed"),
    "no classes": (("readme.md",), "", None, r"x: folder .* has no class folders.*root/<class>/<image>"),
    "flat": (("a.png", "b.png"), "", None, r"2 images .*a\.png.* lie directly in .*named after"),
    "empty class": (("dog/1.png", "fox/notes.txt"), "", None, r"fox holds no image \(but 1 .*notes\.txt"),
    "no image": (("dog/notes.txt",), "", ("dog",), "x: no image under"),
    "nested": (("dog/a/1.png", "dog/2.png"), "", None, r"dog holds folder 'a'.*data_layout: domains"),
    "unknown class": (("dgo/1.png",), "", ("dog", "fox"), r"x: folder 'dgo' .*mean 'dog'\?.*dog, fox"),
    "one class": (("images/1.png", "labels.csv"), "", None, r"one class folder only, 'images', .*or write a list of"),
    "not UTF-8": (("d\udcf6g/1.png",), "", None, r"d\\udcf6g is not valid UTF-8"),
    "a line break": (("d\nog/1.png",), "", None, r"d\\nog has a line break"),
    "two spellings": (("\u00e9/1.png", "e\u0301/1.png"), "", None, r"folders 'e\\u0301' and '\\xe9' read the same"),
    "another spelling": (("e\u0301/1.png",), "", ("\u00e9",), r"one reads the same, .*the folder's name is 'e\\u0301'"),
    "case": (("Dog/1.png",), "", ("dog",), r"x: folder 'Dog'.*did you mean 'dog'"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "root", "classes", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_by_name_and_with_the_fix(
    tmp_path: Path, files: tuple[str, ...], root: str, classes: tuple[str, ...] | None, message: str
) -> None:
    fill(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        scan_folder(tmp_path / root, "x", classes)


def test_many_unknown_folders_are_shortened(tmp_path: Path) -> None:
    fill(tmp_path, *(f"odd{number:02d}/1.png" for number in range(30)))
    with pytest.raises(DataError, match="odd09 and 20 more"):
        scan_folder(tmp_path, "x", ["dog"])


def test_images_at_any_depth_without_what_systems_leave_behind(tmp_path: Path) -> None:
    fill(
        tmp_path, "b.png", "a/2.JFIF", "a/deep/1.jpg", "a/notes.txt", "a/._2.jfif", "__MACOSX/2.jfif", ".hidden/3.png",
        "folder.png/4.png",
    )  # fmt: skip
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)] == [
        "a/2.JFIF", "a/deep/1.jpg", "b.png", "folder.png",
    ]  # fmt: skip
