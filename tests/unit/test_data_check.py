"""check_folder: counts, faults, duplicates and the recipe keys it proposes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fedclip_plugin.data import check_folder
from fedclip_plugin.errors import DataError


def save(path: Path, seed: int, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pacs"
    seed = 0
    for domain in ("art", "photo", "sketch"):
        for name in ("dog", "fox"):
            for index in range(3):
                seed += 1
                save(folder / domain / name / f"{index}.png", seed)
    return folder


def test_clean_folder_of_domains(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(root / "art" / "dog" / "big.jpg", 90, (30, 20))
    save(root / "art" / "dog" / "grey.bmp", 91, (4, 5), "L")
    report = check_folder(root, workers=3)
    assert report.ok
    assert report.layout == "domains"
    assert report.counts["art"] == {"dog": 5, "fox": 3}
    assert list(report.counts) == ["art", "photo", "sketch"]
    assert (report.total, report.classes) == (20, ("dog", "fox"))
    assert report.formats == {"PNG": 18, "JPEG": 1, "BMP": 1}
    assert report.modes == {"RGB": 19, "L": 1}
    assert (report.smallest, report.largest) == ((4, 5), (30, 20))
    text = report.to_text()
    assert "layout domains, 3 domains, 2 classes, 20 images" in text
    assert "class  art  photo  sketch  total\ndog      5      3       3     11\n" in text
    assert "total    8      6       6     20" in text
    assert text.endswith("No faults found.")
    assert capsys.readouterr() == ("", "")


def test_proposed_keys_are_yaml_of_the_recipe(root: Path) -> None:
    text = check_folder(root).to_text()
    keys = yaml.safe_load(text.split("Recipe keys")[1].split(":\n", 1)[1].split("\n\n")[0])
    assert keys == {
        "fedclip_args": {
            "data_layout": "domains", "data_root": str(root), "domains": ["art", "photo", "sketch"],
            "target_domain": "sketch", "classes": ["dog", "fox"],
        },
        "train_args": {"client_num_in_total": 2, "client_num_per_round": 2},
    }  # fmt: skip


def test_folder_of_classes(root: Path) -> None:
    report = check_folder(root / "art")
    assert report.ok
    assert report.layout == "classes"
    assert report.counts == {"images": {"dog": 3, "fox": 3}}
    assert report.recipe_keys()["data_args"] == {"partition_method": "homo"}
    assert "class  images\ndog         3\nfox         3\ntotal       6" in report.to_text()


def test_one_domain_alone_is_no_target(root: Path) -> None:
    shutil.rmtree(root / "art")
    shutil.rmtree(root / "photo")
    keys = check_folder(root).recipe_keys()
    assert "target_domain" not in keys["fedclip_args"]
    assert keys["train_args"]["client_num_in_total"] == 1


def test_unreadable_files_are_listed_with_the_reason(root: Path) -> None:
    whole = (root / "art/dog/0.png").read_bytes()
    (root / "art/dog/0.png").write_bytes(whole[: len(whole) // 2])
    (root / "photo/fox/1.png").write_text("not an image")
    (root / "photo/fox/2.png").write_bytes(b"")
    report = check_folder(root)
    assert not report.ok
    assert [file for file, _ in report.unreadable] == ["art/dog/0.png", "photo/fox/1.png", "photo/fox/2.png"]
    assert report.total == 18
    text = report.to_text()
    assert "Unreadable (3):\n  art/dog/0.png: " in text
    assert "photo/fox/1.png: its content is not a JPEG, PNG, WebP or BMP image" in text
    assert "Faults found" in text


def test_equal_files_and_leaks_between_domains(root: Path) -> None:
    shutil.copy(root / "art/dog/0.png", root / "art/dog/copy.png")
    shutil.copy(root / "art/fox/0.png", root / "sketch/fox/other name.png")
    report = check_folder(root)
    assert report.ok, "a run takes them; the reader decides"
    assert report.duplicates == (
        ("art/dog/0.png", "art/dog/copy.png"),
        ("art/fox/0.png", "sketch/fox/other name.png"),
    )
    assert report.leaks == (("art/fox/0.png", "sketch/fox/other name.png"),)
    text = report.to_text()
    assert "Equal files in different domains (1):\n  art/fox/0.png = sketch/fox/other name.png" in text
    assert "Equal files (1):\n  art/dog/0.png = art/dog/copy.png" in text


def test_problems_are_all_listed(root: Path) -> None:
    shutil.move(root / "photo/fox", root / "photo/Fox")
    (root / "sketch/owl").mkdir()
    save(root / "art/dog/more/1.png", 70)
    (root / "empty").mkdir()
    (root / "list.csv").touch()
    report = check_folder(root)
    assert not report.ok
    text = "\n".join(report.problems)
    assert "photo: lacks the classes fox, owl of other domains" in text
    assert "sketch/owl: holds no image" in text
    assert "art/dog: holds 1 folders, such as more" in text
    assert "empty: no class folders" in text
    assert report.ignored == ("list.csv",)
    assert "-" in report.to_text().splitlines()[3]


def test_nothing_readable(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "a.png", 0)
    (tmp_path / "dog" / "a.png").write_bytes(b"x")
    report = check_folder(tmp_path)
    assert report.smallest is None
    assert "No image can be read." in report.to_text()


def test_long_lists_are_shortened_and_odd_names_can_be_printed(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "a.png", 0)
    for index in range(25):
        (tmp_path / "dog" / f"note{index}.txt").touch()
    (tmp_path / "dog" / "bad\udcff.txt").touch()
    text = check_folder(tmp_path).to_text()
    assert "... and 6 more" in text
    assert "bad\\udcff.txt" in text
    text.encode("utf-8")


def test_progress_bar_goes_to_stderr(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_folder(root, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "18/18" in err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.touch(), "is a file"),
        (lambda path: path.mkdir(), "has no class folders"),
        (lambda path: save(path / "a.png", 0), "lie directly in"),
    ],
)
def test_what_is_no_image_folder_is_refused(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        check_folder(tmp_path / "x")
