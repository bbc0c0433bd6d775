"""From a CSV of 12-bit scans of patients to a device: TIFF and DICOM files train, are scored, and are exported."""

import csv

import numpy as np
import pytest
from PIL import Image

from fedclip_edge.runtime import EdgeClassifier
from fedclip_export.cli import main as export
from fedclip_miniature import ensure_miniature
from fedclip_plugin import fit
from fedclip_plugin.data import PARTS, Columns, ImageList, split_images
from tests.support.dicoms import dicom
from tests.support.workshop import IMAGES_PER_CLASS

HOSPITALS, PATIENTS = ("north", "south", "east"), 6
BLACK, WHITE = 100, 4000  # of 12 bits


def tiff(path, samples):
    Image.fromarray(samples).save(path, format="TIFF")


def scan(path, samples):
    path.write_bytes(dicom(samples, BitsStored=12))


@pytest.fixture(params=[("tif", tiff), ("dcm", scan)], ids=["tiff", "dicom"])
def scans(request, workshop, tmp_path):
    """Return a list of scans of three hospitals, each of six patients."""
    suffix, write = request.param
    drawn = ensure_miniature(workshop.data, IMAGES_PER_CLASS, 1.0)
    with (tmp_path / "scans.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["image", "finding", "hospital", "patient"])
        for hospital, style in zip(HOSPITALS, ("photo", "cartoon", "sketch"), strict=True):
            (tmp_path / hospital).mkdir()
            for path in sorted((drawn / style).glob("*/*.png")):
                grey = np.asarray(Image.open(path).convert("L"), dtype=np.float64) / 255
                file = tmp_path / hospital / f"{path.parent.name}_{path.stem}.{suffix}"
                write(file, np.rint(BLACK + grey * (WHITE - BLACK)).astype(np.uint16))
                patient = f"{hospital} {int(path.stem) % PATIENTS}"
                rows.writerow([file.relative_to(tmp_path), path.parent.name, hospital, patient])
    return tmp_path / "scans.csv"


def test_scans_train_are_scored_and_answer_on_a_device(scans, workshop, tmp_path, monkeypatch, fresh_fedml):
    monkeypatch.chdir(tmp_path)
    columns = {"file": "image", "label": "finding", "silo": "hospital", "group": "patient"}
    result = fit(
        scans,
        "east",
        backbone="clip-tiny",
        rounds=2,
        progress=False,
        sample_range=[BLACK, WHITE],
        feature_cache_dir=workshop.features,
        **{f"{what}_column": name for what, name in columns.items()},
    )
    assert list(result.rounds[0].silos) == ["north", "south"] and result.rounds[-1].target is not None
    images = ImageList.read(scans, Columns(**columns))
    for hospital in HOSPITALS:
        own = images.image_set(hospital, silo=hospital)
        parts = split_images(own, seed=0)
        patients = [set(own.groups[getattr(parts, part)]) for part in PARTS]
        assert sum(map(len, patients)) == PATIENTS, "no patient is in two parts"
    found = result.best.evaluate(images.parts(result.best.saved.classes))
    assert list(found) == ["east", "north", "south"]
    assert found["east"].adapter.score.accuracy == pytest.approx(result.rounds[result.rounds[-1].best_round].target)

    assert export(["keygen", "release"]) == 0
    adapter = result.save("kept") / "adapters" / "best"
    assert export(["bundle", "--adapter", str(adapter), "--out", "bundle", "--sign", "release"]) == 0
    files = [scans.parent / row.file for row in images.rows[::40]]
    with EdgeClassifier("bundle", keys=["release.pub"], provider="cpu") as device:
        np.testing.assert_allclose(device.logits(files), result.best.logits(files).numpy(), atol=5e-3)
