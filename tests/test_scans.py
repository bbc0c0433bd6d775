"""A list of 16-bit TIFF and DICOM files of two hospitals: checked, trained on, evaluated, and read by a device."""

import csv
import json

import numpy as np
import pytest

from fedclip_edge.runtime import EdgeClassifier
from fedclip_miniature import render_image
from fedclip_plugin import Classifier
from fedclip_plugin.cli.main import main
from fedclip_plugin.data import silo_image_set
from fedclip_plugin.data.splits import split_images
from fedclip_plugin.federated.job_here import run_job_here
from fedclip_plugin.fitting import _Progress
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder
from tests.support.dicoms import dicom
from tests.support.tiffs import tiff

LABELS, IMAGES = ("dog", "house"), 12
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


def scan(label, index, hospital):
    """Return a drawing in 12 of 16 bits, as TIFF or as DICOM, every second one with a window."""
    pixels = np.asarray(render_image("photo", label, index)).astype(np.uint16)
    samples = (pixels.sum(axis=-1) * 4095 // 765).astype(np.uint16)
    return tiff(samples) if hospital == "north" else dicom(samples, **(WINDOW if index % 2 else {}))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("scans")
    rows = []
    for hospital, suffix in (("north", "tif"), ("south", "dcm")):
        (place / hospital).mkdir()
        for label in LABELS:
            for index in range(IMAGES):
                name = f"{hospital}/{label}{index}.{suffix}"
                (place / name).write_bytes(scan(label, index, hospital))
                rows.append([name, label, hospital, f"{hospital}-{label}-{index // 3}"])
    with (place / "scans.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "label", "hospital", "patient"], *rows])
    return place


@pytest.fixture(scope="module")
def recipe(place, workshop):
    keys = {
        "data_list": place / "scans.csv",
        "silos": "[north, south]",
        "backbone": "clip-tiny",
        "sample_range": "[0, 4095]",
        "precision": "fp32",  # a CPU with native bf16 would take that by itself
        "feature_cache_dir": workshop.features,
    }
    sets = [f"fedclip_args.{key}={value}" for key, value in keys.items()]
    rounds = {"client_num_in_total": 2, "client_num_per_round": 2, "comm_round": 2}
    sets += [f"train_args.{key}={value}" for key, value in rounds.items()]
    return load_recipe(find_recipe("own_images/vit_b32_sigmoid_gate_list"), sets)


@pytest.fixture(scope="module")
def adapter(place, recipe):
    run_job_here(recipe, RunFolder(place / "run"), False, False, _Progress(2, shown=False))
    return place / "run/adapters/final"


def test_the_list_is_checked(place, capsys):
    words = ["check", str(place / "scans.csv"), "--silo-column", "hospital", "--group-column", "patient"]
    assert main([*words, "--no-progress", "--sample-range", "0", "4095"]) == 0
    text = capsys.readouterr().out
    assert "Formats: DICOM 24, TIFF 24\n" in text
    assert "Scaled to 8 bits by: sample_range 36, window 12\n" in text
    assert "Without a window: 12 DICOM files\n" in text


def test_it_trains_and_the_range_is_in_the_adapter(adapter):
    assert json.loads((adapter / "adapter.json").read_text())["sample_range"] == [0, 4095]


@pytest.mark.parametrize("index", [0, 1])
def test_no_patient_is_in_two_parts_of_a_split(recipe, index):
    images = silo_image_set(recipe, index)
    split = split_images(images, seed=0)
    parts = [images.groups[rows].tolist() for rows in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == 2 * IMAGES
    assert sum(len(set(part)) for part in parts) == len(set(images.groups.tolist())) == 2 * IMAGES // 3


def test_it_is_evaluated_by_the_adapters_range(place, adapter, capsys):
    words = ["evaluate", str(adapter), str(place / "scans.csv"), "--silo-column", "hospital", "--json"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "nearly black" not in told.err
    assert set(json.loads(told.out)) == {"north", "south", "all images"}


def test_a_device_answers_as_the_trainer_does(place, adapter):
    words = ["export", "bundle", "--adapter", str(adapter), "--out", str(place / "bundle"), "--calibrate"]
    assert main([*words, str(place / "south")]) == 0
    files = [place / "north/dog0.tif", place / "south/dog0.dcm", place / "south/house1.dcm"]
    trained = Classifier.load(adapter, device="cpu").logits(files).numpy()
    with EdgeClassifier(place / "bundle", allow_unsigned=True, provider="cpu") as classifier:
        np.testing.assert_allclose(classifier.logits(files), trained, atol=1e-3)
