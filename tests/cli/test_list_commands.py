"""``fedclip check`` and ``fedclip evaluate`` on a list of images, as a user gives it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fedclip_miniature import ensure_miniature
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.cli.main import main
from fedclip_plugin.data import Columns
from tests.support.random_adapters import write_adapter
from tests.support.workshop import Workshop


@pytest.fixture(scope="module")
def drawings(workshop: Workshop) -> Path:
    return ensure_miniature(workshop.data, 2, domains=["photo", "sketch"])


@pytest.fixture
def listed(tmp_path: Path, drawings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Half of the files by absolute names, half in a folder whose name is not ASCII; read from another folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawings / "photo", tmp_path / "own" / "f\u00f6to")
    lines = ["file;label;site;fold"]
    for path in sorted((tmp_path / "own" / "f\u00f6to").glob("*/*.png")):
        fold = "train" if path.stem.endswith("0") else "test"
        lines.append(f"{path.relative_to(tmp_path / 'own')};{path.parent.name};south;{fold}")
    lines += [f"{path};{path.parent.name};north;test" for path in sorted(drawings.glob("sketch/*/*.png"))]
    (tmp_path / "own/list.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    return Path("own/list.csv")


def test_check_tells_of_a_list_and_proposes_the_command(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(listed), "--silo-column", "site", "--no-progress"]) == 0
    out = capsys.readouterr().out
    assert "own/list.csv: layout list, 2 silos, 7 classes, 28 images" in out
    assert "--set fedclip_args.silo_column=site" in out
    assert main(["check", str(listed), "--label-column", "lable"]) == 2
    assert "did you mean 'label'?" in capsys.readouterr().err


def test_columns_are_for_lists(tmp_path: Path, listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "own", "--silo-column", "site"]) == 2
    assert (
        "own is no list of images (.csv, .tsv, .txt, .lst): leave --data-root and columns out"
        in capsys.readouterr().err
    )
    assert main(["check", "own/none.csv"]) == 2
    assert "list own/none.csv does not exist" in capsys.readouterr().err


def test_evaluate_scores_silos_and_splits_apart(
    tmp_path: Path, listed: Path, drawings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    assert (
        main(["evaluate", str(adapter), str(listed), "--silo-column", "site", "--split-column", "fold", "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert {name: row["images"] for name, row in told.items()} == {
        "north, test": 14,
        "south, train": 7,
        "south, test": 7,
        "all images": 28,
    }
    folders = Classifier.load(adapter, device="cpu").evaluate(drawings)
    assert told["north, test"]["adapter"] == folders["sketch"].adapter.score.accuracy
    assert main(["evaluate", str(adapter), str(listed)]) == 0
    assert "list" in capsys.readouterr().out


def test_features_of_a_list_are_cached_whatever_its_names(tmp_path: Path, listed: Path) -> None:
    classifier = Classifier.load(write_adapter(tmp_path / "adapter"), device="cpu")
    sets = classifier.image_sets(listed, Columns(silo="site"))
    sources = [classifier._source(tmp_path / "cache", 8, 1) for _ in range(2)]
    assert [sources[0].images(part, skip_bad=False).encoded for part in sets] == [14, 14]
    assert [sources[1].images(part, skip_bad=False).encoded for part in sets] == [0, 0]
    assert [sources[1].pixels(part, skip_bad=False).encoded for part in sets] == [14, 14]
    assert [sources[1].pixels(part, skip_bad=False).encoded for part in sets] == [0, 0]


def test_an_unknown_label_and_a_missing_file_are_told(
    tmp_path: Path, listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    text = listed.read_text(encoding="utf-8-sig")
    listed.write_text(text.replace(";dog;", ";dgo;", 1), encoding="utf-8")
    assert main(["evaluate", str(adapter), str(listed)]) == 2
    err = capsys.readouterr().err
    assert "line 2: label \"dgo\" is not one of the classes (did you mean 'dog'?)" in err
    assert "fedclip_args" not in err
    listed.write_text(text.replace("0000.png", "gone.png", 1), encoding="utf-8")
    assert main(["evaluate", str(adapter), str(listed)]) == 2
    assert "1 of 28 images cannot be read" in capsys.readouterr().err
    assert main(["evaluate", str(adapter), str(listed), "--on-bad-image", "skip"]) == 0
    assert "left out: 1 image" in capsys.readouterr().out


def test_validate_checks_the_lists_that_are_here(
    tmp_path: Path, listed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", f"fedclip_args.data_list={listed}", "--set", "fedclip_args.silo_column=site"]
    words += ["--set", "fedclip_args.group_column=null", "--set", "fedclip_args.silos=[north, south]"]
    words += [word for key in ("total", "per_round") for word in ("--set", f"train_args.client_num_in_{key}=2")]
    words = [word.replace("in_per_round", "per_round") for word in words]
    assert main(["validate", "own_images/vit_b32_sigmoid_gate_list", *words]) == 0
    assert "valid; 2 silos" in capsys.readouterr().out
    assert (
        main(["validate", "own_images/vit_b32_sigmoid_gate_list", *words, "--set", "fedclip_args.silos=[north, suth]"])
        == 2
    )
    assert "(did you mean 'south'?)" in capsys.readouterr().err
    assert main(["validate", "own_images/vit_b32_sigmoid_gate_list"]) == 0
    assert "data/images.csv is not on this machine: not checked" in capsys.readouterr().out
