"""check_images: counts, faults, duplicates and the recipe keys it proposes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from fedclip_plugin.cli.main import main
from fedclip_plugin.data import check_images, silo_image_set, target_image_set
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe import Recipe, find_recipe, load_recipe
from tests.support.dicoms import dicom
from tests.support.tiffs import tiff


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
    report = check_images(root, workers=3)
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


def found_by(command: str) -> tuple[Recipe, list[str], str | None]:
    """Load the recipe of a printed command and list its images; return silos and target."""
    words = shlex.split(command)
    assert words[:2] == ["fedclip", "launch"]
    assert set(words[3::2]) == {"--set"}
    recipe = load_recipe(find_recipe(words[2]), words[4::2])
    silos = [silo_image_set(recipe, index).name for index in range(recipe.train_args.client_num_in_total)]
    target = target_image_set(recipe)
    return recipe, silos, target.name if target else None


def advice(text: str) -> list[tuple[str, dict[str, Any], str]]:
    """Return recipe, keys and command of each layout that a report proposes."""
    found = re.findall(
        r"^\d\. data_layout .*; start from (\S+), with\n((?:.+\n)+?)or at once: (.*)$", text, re.MULTILINE
    )
    return [(recipe, yaml.safe_load(keys), command) for recipe, keys, command in found]


def add_images(folder: Path, count: int = 10) -> None:
    for index in range(count):
        save(folder / f"more{index}.png", 500 + index)


LAYOUTS = {
    "three folders": (
        ("art", "photo", "sketch's #2"),
        [(["art", "photo", "sketch's #2"], None), (["art", "photo"], "sketch's #2")],
    ),
    "one folder": (("art",), [(["art"], None)]),
}


@pytest.mark.parametrize(("domains", "expected"), LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("lacking", [False, True])
def test_what_it_proposes_validates_and_finds_the_images(
    tmp_path: Path, domains: tuple[str, ...], expected: Any, lacking: bool
) -> None:
    for domain in domains:
        for name in ("dog", "no") if not (lacking and domain == domains[0]) else ("dog", "no", "fox: red"):
            add_images(tmp_path / domain / name)
    found = advice(check_images(tmp_path).to_text())
    assert [found_by(command)[1:] for _, _, command in found] == expected
    for name, keys, command in found:
        recipe = found_by(command)[0]
        assert find_recipe(name).exists()
        plain = recipe.model_dump(mode="json")
        assert all(plain[section][key] == value for section, values in keys.items() for key, value in values.items())


@pytest.mark.parametrize(("images", "silos"), [(20, 3), (10, 2)])
def test_a_folder_of_classes_is_proposed_to_be_shared_out(tmp_path: Path, images: int, silos: int) -> None:
    for name in ("dog", "fox"):
        add_images(tmp_path / name, images)
    commands = [command for _, _, command in advice(check_images(tmp_path).to_text())]
    (even, names, _), (skewed, _, _) = map(found_by, commands)
    assert (even.data_args.partition_method, skewed.data_args.partition_method) == ("homo", "hetero")
    assert names == [f"silo_{number}" for number in range(1, silos + 1)]


def test_folder_of_classes(root: Path) -> None:
    report = check_images(root / "art")
    assert report.ok
    assert report.layout == "classes"
    assert report.counts == {"images": {"dog": 3, "fox": 3}}
    assert "class  images\ndog         3\nfox         3\ntotal       6" in report.to_text()


def test_unreadable_files_are_listed_with_the_reason(root: Path) -> None:
    whole = (root / "art/dog/0.png").read_bytes()
    (root / "art/dog/0.png").write_bytes(whole[: len(whole) // 2])
    (root / "photo/fox/1.png").write_text("not an image")
    (root / "photo/fox/2.png").write_bytes(b"")
    report = check_images(root)
    assert not report.ok
    assert [file for file, _ in report.unreadable] == ["art/dog/0.png", "photo/fox/1.png", "photo/fox/2.png"]
    assert report.total == 18
    text = report.to_text()
    assert "Unreadable (3):\n  art/dog/0.png: " in text
    assert "photo/fox/1.png: its content is not a JPEG, PNG, WebP, BMP, TIFF or DICOM image" in text
    assert "Faults found" in text


def test_equal_files_and_leaks_between_domains(root: Path) -> None:
    shutil.copy(root / "art/dog/0.png", root / "art/dog/copy.png")
    shutil.copy(root / "art/fox/0.png", root / "sketch/fox/other name.png")
    report = check_images(root)
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
    report = check_images(root)
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
    report = check_images(tmp_path)
    assert report.smallest is None
    assert "No image can be read." in report.to_text()


def test_long_lists_are_shortened_and_odd_names_can_be_printed(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "a.png", 0)
    for index in range(25):
        (tmp_path / "dog" / f"note{index}.txt").touch()
    (tmp_path / "dog" / "bad\udcff.txt").touch()
    (tmp_path / "dog" / "\x1b[2Jx\nNo faults found.txt").touch()
    text = check_images(tmp_path).to_text()
    assert r"dog/\x1b[2Jx\nNo faults found.txt" in text
    assert "... and 7 more" in text
    assert "bad\\udcff.txt" in text
    text.encode("utf-8")


def test_progress_bar_goes_to_stderr(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_images(root, progress=True)
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
        check_images(tmp_path / "x")


def of_16_bits(path: Path, top: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, top, (8, 8)).astype(np.uint16)).save(path)


PROBLEMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "12 of 16 bits": (
        lambda root: [of_16_bits(root / f"art/dog/x{n}.png", 4096, n) for n in (1, 2)],
        r"art: 2 images with samples of more than 8 bits use only the lowest 12, such as art/dog/x1\.png: .*"
        r"sample_range, such as \[0, 4095\]",
    ),
    "a table of labels": (
        lambda root: [shutil.rmtree(root / domain / "fox") for domain in ("art", "photo", "sketch")],
        r"has one class folder only, 'dog', and a classifier tells two classes or more apart.*or write a list",
    ),
    "other formats": (
        lambda root: [(root / "photo/dog" / name).touch() for name in ("1.gif", "2.GIF", "3.avif", "IM0001", "x.txt")],
        r"photo: 4 files not used \(\.avif 1, \.gif 2, without suffix 1\), such as dog/1\.gif; convert",
    ),
    "images beside the class folders": (
        lambda root: (root / "photo/loose.png").touch(),
        r"photo: 1 file not used \(\.png 1\), such as loose\.png",
    ),
    "another encoding": (
        lambda root: (root / "art/dog").rename(root / "art/d\udcf6g"),
        r"the name of folder art/d\\udcf6g is not valid UTF-8",
    ),
    "a domain of another encoding": (
        lambda root: (root / "art").rename(root / "\udce4rt"),
        r"the name of folder \\udce4rt is not valid UTF-8",
    ),
    "a line break": (
        lambda root: (root / "art/dog").rename(root / "art/d\nog"),
        r"the name of folder art/d\\nog has a line break",
    ),
    "two spellings in one domain": (
        lambda root: [save(root / "art" / name / "1.png", 1) for name in ("\u00e9lan", "e\u0301lan")],
        r"art: the folders 'e\\u0301lan' and '\\xe9lan' read the same",
    ),
    "two spellings in two domains": (
        lambda root: [save(root / name / "1.png", 1) for name in ("art/\u00e9lan", "photo/e\u0301lan")],
        r"(?m)^  the folders 'e\\u0301lan' and '\\xe9lan' read the same",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_a_run_would_get_wrong_is_a_fault(root: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(root)
    report = check_images(root)
    assert not report.ok
    text = report.to_text()
    assert re.search(message, text), text
    assert text.endswith("Faults found: mend them before a run.")
    text.encode("utf-8")


def test_samples_of_more_than_8_bits_are_told_with_what_scales_them(root: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (8, 8)).astype(np.uint16)
    files = {
        "art/dog/1.tif": tiff(samples),
        "art/dog/2.tiff": tiff(samples, tags=[(340, 3, [0]), (341, 3, [60000])]),
        "photo/dog/1.dcm": dicom(samples, WindowCenter=300, WindowWidth=200),
        "photo/dog/2.DICOM": dicom(np.stack([samples >> 4, samples]), NumberOfFrames=2, BitsStored=12),
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    report = check_images(root)
    assert report.ok
    assert (report.formats, report.bits) == ({"PNG": 18, "TIFF": 2, "DICOM": 2}, {8: 18, 16: 3, 12: 1})
    assert report.scaled == {"bit depth": 2, "SMinSampleValue and SMaxSampleValue": 1, "window": 1}
    assert (report.without_window, report.more_frames) == (1, 1)
    text = report.to_text()
    for line in (
        "Modes: I;16 2, MONOCHROME2 2, RGB 18",
        "Bits of a sample: 8: 18, 12: 1, 16: 3",
        "Scaled to 8 bits by: SMinSampleValue and SMaxSampleValue 1, bit depth 2, window 1",
        "Without a window: 1 DICOM file",
        "Several frames or pages: 1 file; only the first is used",
    ):
        assert f"{line}\n" in text


def test_a_sample_range_is_tried_and_is_in_what_is_proposed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for domain in ("art", "photo", "sketch"):
        add_images(root / domain / "dog")
    of_16_bits(root / "art/dog/x.png", 4096)
    assert main(["check", str(root), "--no-progress"]) == 1
    assert "set fedclip_args.sample_range, such as [0, 4095]" in capsys.readouterr().out
    assert main(["check", str(root), "--no-progress", "--sample-range", "0", "4095"]) == 0
    text = capsys.readouterr().out
    assert "Scaled to 8 bits by: sample_range 1\n" in text
    assert all(found_by(command)[0].fedclip_args.sample_range == (0, 4095) for _, _, command in advice(text))
    assert main(["check", str(root), "--sample-range", "9", "9"]) == 2
    assert "--sample-range 9 9 must be two finite numbers [black, white]" in capsys.readouterr().err


def test_dicom_without_pydicom_is_listed_with_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "art/dog/1.dcm").write_bytes(dicom(np.zeros((8, 8), np.uint16)))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    ((file, reason),) = check_images(root).unreadable
    assert file == "art/dog/1.dcm"
    assert reason.startswith("DICOM needs pydicom: pip install 'fedclip-plugin[dicom]'")


def test_bright_16_bit_images_are_no_fault(root: Path) -> None:
    of_16_bits(root / "art/dog/x.png", 65536)
    assert check_images(root).ok


def test_what_is_no_plain_file_is_unreadable_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "art/dog/pipe.png")
    (root / "art/dog/gone.png").symlink_to("/gone/away.png")
    (root / "art/dog/folder.png").mkdir()
    (root / "art/dog/circle.png").symlink_to("circle.png")
    report = check_images(root)
    assert [file for file, _ in report.unreadable] == [
        f"art/dog/{name}.png" for name in ("circle", "folder", "gone", "pipe")
    ]
    assert report.problems == ()
