"""The command line outside of mpirun: what it prints, and how it fails."""

import gc
import io
import json
import os
import pwd
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedclip_edge.calibration import Calibration
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.cli.main import SELDOM, main, skip_last_search
from fedclip_plugin.cli.mpirun.command import Launch
from fedclip_plugin.cli.mpirun.run_and_wait import Ending
from fedclip_plugin.methods import METHODS
from fedclip_plugin.ranks import share_cores, world
from fedclip_plugin.recipe import recipe_files, study_files
from fedclip_plugin.runs import SavedAdapter, save_adapter
from fedclip_plugin.runs.adapter_file import add_metrics, set_calibration
from tests.support.workshop import frozen_clip_tiny


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(tmp_path):
    for label in ("dog", "house"):
        for number in range(2):
            path = tmp_path / "images" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 30, 3), 90 * number, np.uint8)).save(path)
    return tmp_path / "images"


def save(folder: Path, fingerprint_of: str) -> Path:
    from fedclip_plugin.methods import create_adapter, parameters_of

    frozen = frozen_clip_tiny(("dog", "house"))
    tensors = {name: value.numpy() for name, value in parameters_of(create_adapter("fedclip", frozen, 0)).items()}
    saved = SavedAdapter(
        "fedclip",
        128,
        BUILT_IN,
        fingerprint_of,
        "fp32",
        frozen.text.logit_scale,
        ("dog", "house"),
        "a picture of a {}",
        4,
        "d",
        frozen.text.features.numpy(),
        tensors,
    )
    save_adapter(folder, saved)
    return folder


@pytest.fixture
def adapter(tmp_path):
    return save(tmp_path / "adapter", fingerprint(locate_backbone(BUILT_IN)))


def test_ls_names_every_recipe(capsys):
    assert main(["ls"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(recipe_files()) + len(study_files())


def test_ls_names_every_method_with_what_it_trains(capsys):
    assert main(["ls", "--methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    assert "LoRA: matrices of rank 4" in "\n".join(lines)


def test_export_is_the_exporters_own_command(capsys, tmp_path):
    assert main(["export", "keygen", str(tmp_path / "keys" / "release")]) == 0
    assert "release.pub: public key" in capsys.readouterr().out
    gone = tmp_path / "gone"
    assert main(["export", "bundle", "--adapter", str(gone), "--out", str(tmp_path / "bundle")]) == 2
    assert "holds no adapter.json" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["export", "update", "--help"])
    assert "usage: fedclip export update" in capsys.readouterr().out


def test_validate_tells_good_from_bad_and_checks_them_all(capsys, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("train_args: {comm_rounds: 3}\n")
    assert main(["validate", str(bad), "miniature/clip_tiny_fedclip"]) == 2
    told = capsys.readouterr()
    assert "valid; 3 silos, 4 ranks" in told.out
    assert "did you mean 'comm_round'" in told.err


def test_run_outside_of_mpirun_tells_the_launch_command(capsys, monkeypatch):
    for key in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"):
        monkeypatch.delenv(key, raising=False)
    assert world() is None
    assert main(["run", "miniature/clip_tiny_fedclip"]) == 2
    assert "fedclip launch miniature/clip_tiny_fedclip" in capsys.readouterr().err
    assert main(["--cf", "miniature/clip_tiny_fedclip"]) == 2
    assert "fedclip launch" in capsys.readouterr().err


def test_launch_refuses_before_it_starts_anything(capsys):
    assert main(["launch", "miniature/clip_tiny_fedclip", "--set", "train_args.comm_rounds=3"]) == 2
    assert "comm_rounds" in capsys.readouterr().err
    assert main(["launch", "miniature/clip_tiny_fedclip", "--hostfile", "nowhere"]) == 2
    assert "hostfile nowhere does not exist" in capsys.readouterr().err
    assert main(["launch", "miniature/clip_tiny"]) == 2
    assert "clip_tiny_fedclip" in capsys.readouterr().err


def test_what_cannot_fit_is_refused_before_mpirun(capsys, monkeypatch):
    monkeypatch.setattr("fedclip_plugin.federated.startup.memory_check.available_bytes", lambda: 10**9)
    monkeypatch.setattr(Launch, "attend", lambda *words: pytest.fail("mpirun was started"))
    for words in (["launch", "miniature/clip_tiny_fedclip"], ["study", "studies/miniature"]):
        assert main(words) == 2
        told = capsys.readouterr().err
        assert "GB of memory on this host: 3 x 0." in told
        assert "there are 1.0 GB for it" in told


def test_images_that_no_rank_could_start_with_are_refused_before_mpirun(capsys, monkeypatch, images, tmp_path):
    monkeypatch.setattr("os.execve", lambda *command: pytest.fail("mpirun was started"))
    own = "own_images/vit_b32_sigmoid_gate_iid"
    assert main(["launch", own, "--set", f"fedclip_args.data_root={images}", "--run", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        "fedclip: 4 images cannot give each of 3 silos 10; add images, or lower client_num_in_total or "
        "min_images_per_silo\n"
    )
    assert main(["study", "studies/pacs", "--set", f"fedclip_args.data_root={tmp_path / 'gone'}"]) == 2
    assert capsys.readouterr().err.startswith(f"fedclip: folder {tmp_path / 'gone'} does not exist; check the path")


@pytest.mark.parametrize("host", [None, "hosts"])
def test_what_fits_or_runs_elsewhere_is_started(monkeypatch, tmp_path, host):
    monkeypatch.setattr(Launch, "attend", lambda *words: Ending(0, told=False))
    monkeypatch.setattr(
        "fedclip_plugin.federated.startup.memory_check.available_bytes", lambda: 0 if host else 3 * 10**9
    )
    (tmp_path / "hosts").write_text("far slots=4\n")
    assert main(["launch", "miniature/clip_tiny_fedclip", *(["--hostfile", host] if host else [])]) == 0


def test_the_launch_command_starts_one_rank_a_silo_and_the_server(monkeypatch, tmp_path):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    words = Launch(4).command(["program"])
    assert words[1:3] == ["-np", "4"]
    assert "--allow-run-as-root" in words
    assert words[-1] == "program"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    far = Launch(4, tmp_path / "hosts").command(["program"])
    assert "--allow-run-as-root" not in far
    assert far[far.index("--hostfile") + 1] == str(tmp_path / "hosts")


def test_ranks_on_one_host_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert share_cores() == 2
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("2", "7")


def test_check_reports_and_fails_on_bad_images(capsys, images):
    assert main(["check", str(images)]) == 0
    assert "2 classes" in capsys.readouterr().out
    (images / "dog" / "bad.jpg").write_bytes(b"\xff\xd8nothing")
    assert main(["check", str(images)]) == 1
    assert "bad.jpg" in capsys.readouterr().out
    (images.parent / "empty" / "dog").mkdir(parents=True)
    assert main(["check", str(images.parent / "empty")]) == 2
    assert "no readable image" in capsys.readouterr().err
    assert main(["check", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_evaluate_sets_zero_shot_beside_the_adapter(capsys, images, adapter):
    assert main(["evaluate", str(adapter), str(images)]) == 0
    assert "zero-shot CLIP" in capsys.readouterr().out
    assert main(["evaluate", str(adapter), str(images), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"]["images"] == 4
    assert 0 <= found["images"]["adapter"] <= 1


@pytest.mark.parametrize("domains", [False, True])
def test_evaluate_takes_the_classes_of_another_data_set(capsys, images, adapter, tmp_path, domains):
    other = tmp_path / "other"
    for name, label in (("horse", "dog"), ("giraffe", "house"), ("dog", "dog")):
        shutil.copytree(
            images / label, other / ("one" if domains and name != "dog" else "two" if domains else "") / name
        )
    words = ["evaluate", str(adapter), str(other), "--json"]
    assert main(words) == 2
    assert "horse" in capsys.readouterr().err
    assert main([*words, "--classes-from-folder"]) == 0
    found = json.loads(capsys.readouterr().out)
    whole = found["all images" if domains else "other"]
    assert list(whole["recall"]) == ["dog", "giraffe", "horse"]
    assert whole["images"] == 6 and whole["unknown"] == 0


def test_evaluate_tells_every_class_and_means_over_the_classes_that_have_images(capsys, images, adapter):
    Image.new("RGB", (20, 20)).save(images / "dog" / "2.png")
    assert main(["evaluate", str(adapter), str(images), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    for side in ("zero_shot", "adapter"):
        dog, house = (found["recall"][label][side] for label in ("dog", "house"))
        assert found["balanced_accuracy"][side] == pytest.approx((dog + house) / 2)
        assert found[side] == pytest.approx((3 * dog + 2 * house) / 5)
        assert 0 <= found["macro_f1"][side] <= 1
    assert found["recall"]["dog"]["images"] == 3
    shutil.rmtree(images / "house")
    assert main(["evaluate", str(adapter), str(images)]) == 0
    told = capsys.readouterr().out
    assert "in no mean over classes, as no image is of them: house\n" in told
    assert "recall, dog" in told and "recall, house" not in told


def test_evaluate_tells_what_confidences_are_worth(capsys, images, adapter, tmp_path):
    """Pictures of other classes may lie at any depth, and are no class of the table."""
    (tmp_path / "others" / "deep").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (20, 20), (80 * number, 0, 0)).save(tmp_path / "others" / "deep" / f"{number}.png")
    calibrated = tmp_path / "calibrated"
    shutil.copytree(adapter.resolve(), calibrated)
    set_calibration(calibrated, Calibration(4.0, 0.99, 0.05, 40))
    words = ["evaluate", str(calibrated), str(images), "--unknown", str(tmp_path / "others")]
    assert main([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert found["images"] == 4 and found["unknown"] == 1.0
    assert {name: 0 <= error <= 1 for name, error in found["calibration_error"].items()} == {
        "zero_shot": True, "uncalibrated": True, "adapter": True
    }  # fmt: skip
    assert found["calibration_error"]["adapter"] != found["calibration_error"]["uncalibrated"]
    other = found["other_classes"]
    assert (other["images"], other["unknown"]) == (3, 1.0)
    assert all(0 <= share <= 1 for share in other["auroc"].values())
    assert main(words) == 0
    out = capsys.readouterr().out
    assert re.search(r"^calibration error +\d+\.\d +\d+\.\d -> \d+\.\d$", out, re.MULTILINE)
    assert re.search(r"^unknown, other classes +3 +- +100\.0$", out, re.MULTILINE) and "AUROC" in out
    assert main(["predict", str(calibrated), str(images / "dog" / "0.png")]) == 0
    assert re.search(r"0\.png  unknown(  \w+ 0\.\d{3}){2}\n$", capsys.readouterr().out)
    assert main(["predict", str(calibrated), str(images / "dog" / "0.png"), "--json", "--top", "2"]) == 0
    (answer,) = json.loads(capsys.readouterr().out).values()
    assert list(answer) == ["unknown"] and len(answer["unknown"]) == 2


@pytest.mark.parametrize("make", [None, "mkdir", "touch"])
def test_evaluate_refuses_other_classes_that_are_not_there(capsys, images, adapter, tmp_path, make):
    place = tmp_path / "others"
    if make:
        getattr(place, make)()
    assert main(["evaluate", str(adapter), str(images), "--unknown", str(place)]) == 2
    assert "--unknown takes a folder of images of other classes; " in capsys.readouterr().err


def test_evaluate_tells_what_it_leaves_out_and_takes_one_class_of_several(capsys, images, adapter):
    (images / "dog" / "scan.heic").touch()
    shutil.rmtree(images / "house")
    assert main(["evaluate", str(adapter), str(images), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["images"]["images"] == 2
    assert told.err.startswith("note: images: 1 file not used (.heic 1), such as dog/scan.heic")


def test_evaluate_names_a_folder_of_another_encoding(capsys, images, adapter):
    (images / "dog").rename(images / "d\udcf6g")
    assert main(["evaluate", str(adapter), str(images)]) == 2
    assert r"images/d\udcf6g is not valid UTF-8" in capsys.readouterr().err


def test_evaluate_takes_a_folder_of_domains(capsys, images, adapter):
    images.rename(images.parent / "photo")
    domains = images.parent / "domains"
    domains.mkdir()
    (images.parent / "photo").rename(domains / "photo")
    (domains / "sketch").symlink_to(domains / "photo")
    assert main(["evaluate", str(adapter), str(domains)]) == 0
    out = capsys.readouterr().out
    assert "accuracy, photo" in out
    assert "accuracy, all images" in out
    assert main(["evaluate", str(adapter), str(domains), "--json"]) == 0
    assert [own["images"] for own in json.loads(capsys.readouterr().out).values()] == [4, 4, 8]


def test_evaluate_names_a_class_that_the_adapter_does_not_know(capsys, images, adapter):
    (images / "house").rename(images / "cat")
    assert main(["evaluate", str(adapter), str(images)]) == 2
    err = capsys.readouterr().err
    assert "'cat'" in err and "Rename or remove the folder" in err and "recipe" not in err and "fedclip_args" not in err


def test_evaluate_refuses_a_folder_without_folders(capsys, tmp_path, adapter):
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", str(adapter), str(tmp_path / "empty")]) == 2
    assert "has no class folders" in capsys.readouterr().err


def test_predict_gives_probabilities_that_add_up(capsys, images, adapter):
    files = [str(path) for path in sorted(images.rglob("*.png"))]
    assert main(["predict", str(adapter), *files, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert list(answers) == files
    assert all(sum(labels.values()) == pytest.approx(1, abs=1e-5) for labels in answers.values())
    assert main(["predict", str(adapter), files[0], "--top", "1"]) == 0
    assert len(capsys.readouterr().out.split()) == 3


def test_predict_answers_the_images_that_can_be_read(capsys, images, adapter):
    good, bad = str(images / "dog" / "0.png"), str(images / "dog" / "bad\n\x1b[2J.jpg")
    Path(bad).write_bytes(b"")
    assert main(["predict", str(adapter), bad, good, str(images)]) == 2
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1 and told.out.startswith(good)
    assert all(line.isprintable() for line in told.err.splitlines())
    assert f"it is a folder. Give its files, or score it with: fedclip evaluate {adapter} {images}\n" in told.err
    assert main(["predict", "--json", str(adapter), bad, good]) == 2
    answers = json.loads(capsys.readouterr().out)
    assert "empty" in answers[bad]["error"] and set(answers[good]) == {"dog", "house"}
    assert main(["predict", str(adapter), bad]) == 2


def test_predict_as_json_is_ascii(capsys, images, adapter):
    path = images / "dog" / "é\udcff家.png"
    (images / "dog" / "0.png").rename(path)
    assert main(["predict", "--json", str(adapter), str(path)]) == 0
    told = capsys.readouterr().out
    assert told.isascii() and list(json.loads(told)) == [str(path)]


@pytest.mark.parametrize("encoder", [False, True])
def test_evaluate_leaves_out_what_cannot_be_read_when_it_is_told_to(capsys, images, adapter, encoder, monkeypatch):
    if encoder:  # the device's encoder, played by the backbone
        clip = FrozenClip(locate_backbone(BUILT_IN), torch.device("cpu"))
        clip.fingerprint = fingerprint(locate_backbone(BUILT_IN))
        monkeypatch.setattr("fedclip_plugin.classifier.OnnxEncoder", lambda path: clip)
    words = ["evaluate", str(adapter), str(images), *(["--encoder", "encoder.onnx"] if encoder else [])]
    (images / "dog" / "bad.png").write_bytes(b"")
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "1 of 5 images cannot be read" in err and "or give --on-bad-image skip" in err and "fedclip_args" not in err
    assert main([*words, "--on-bad-image", "skip"]) == 0
    assert "left out: 1 image that cannot be read" in capsys.readouterr().out
    assert main([*words, "--on-bad-image", "skip", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["images"]
    assert (found["images"], found["skipped"]) == (4, 1)


@pytest.mark.parametrize("harm", ["file", "full"])
def test_evaluate_goes_on_without_a_cache_that_cannot_be_written(capsys, images, adapter, monkeypatch, harm):
    if harm == "file":
        Path(".fedclip").write_text("no folder")
    else:
        full = "fedclip_plugin.cli.evaluate.tempfile.TemporaryFile"
        monkeypatch.setattr(full, lambda dir, buffering: io.FileIO("/dev/full", "w"))
    assert main(["evaluate", str(adapter), str(images)]) == 0
    told = capsys.readouterr()
    assert "zero-shot CLIP" in told.out
    assert f"note: the feature cache {Path('.fedclip/features').absolute()} cannot be written" in told.err


@pytest.mark.parametrize("command", [["ls"], ["doctor"], ["predict", "adapter", "a.png"]])
def test_a_folder_that_was_removed_is_named_before_a_library_ends_the_process(monkeypatch, capsys, tmp_path, command):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(command) == 2
    told = capsys.readouterr()
    assert told.err == "fedclip: the folder in which this was started was removed meanwhile: change to another\n"
    assert not told.out


@pytest.mark.parametrize("home", [None, "", "/own"])
@pytest.mark.parametrize("entry", [True, False])
def test_a_command_has_a_home_where_the_user_has_none(monkeypatch, entry, home):
    monkeypatch.setenv("HOME", home) if home is not None else monkeypatch.delenv("HOME", raising=False)
    expected = home or (pwd.getpwuid(os.getuid()).pw_dir if entry else tempfile.gettempdir())
    if not entry:
        monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert main(["ls"]) == 0
    assert os.environ["HOME"] == expected


def test_an_adapter_of_another_backbone_is_refused(capsys, images, tmp_path):
    other = save(tmp_path / "other", "0" * 64)
    assert main(["evaluate", str(other), str(images)]) == 2
    assert "its features mean something else" in capsys.readouterr().err
    assert main(["predict", str(other), str(images / "dog" / "0.png")]) == 2
    assert main(["predict", str(tmp_path), str(images / "dog" / "0.png")]) == 2
    assert "holds no adapter.json" in capsys.readouterr().err


def test_the_doctor_finds_this_environment_fit(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "fedml 0.9.6" in out
    assert "fit for a federation" in out


def test_an_adapter_that_did_not_help_says_so_beside_its_answers(capsys, images, adapter):
    commands = [["evaluate", str(adapter), str(images)], ["predict", str(adapter), str(images / "dog" / "0.png")]]
    for validation, times in ((0.8, 0), (0.6, 1)):
        add_metrics(adapter, {"validation": validation, "zero_shot_validation": 0.7})
        for command in commands:
            assert main(command) == 0
            assert capsys.readouterr().err.count("10.0 points below zero-shot CLIP") == times


def test_imports_of_a_command_are_searched_for_cycles_seldom(capsys):
    usual = gc.get_threshold()
    gc.set_threshold(700)
    try:
        assert main(["ls", "--methods"]) == 0
        assert gc.get_threshold()[0] == SELDOM
    finally:
        gc.set_threshold(*usual)


@pytest.mark.parametrize(("loaded", "frozen"), [((), 1), (("torch",), 0), (("onnx",), 0)])
def test_last_search_for_cycles_stays_where_it_frees_something(monkeypatch, loaded, frozen):
    calls = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    for name in ("torch", "onnx"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in loaded:
        monkeypatch.setitem(sys.modules, name, gc)
    skip_last_search()
    assert len(calls) == frozen
