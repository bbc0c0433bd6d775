"""``calibrate``: a device's own temperature and threshold, beside what was signed, for one round."""

import json

import numpy as np
import pytest
from PIL import Image

from fedclip_edge.calibration import calibration_of, confidences
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.runtime import EdgeClassifier
from tests.support import forge

COUNT = 48


@pytest.fixture
def labelled(tmp_path):
    """Return a folder of labelled pictures, of colours that the forged encoder tells apart."""
    rng = np.random.default_rng(5)
    for number in range(COUNT):
        label = forge.LABELS[number % len(forge.LABELS)]
        (tmp_path / "place" / label).mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), rng.integers(0, 256, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "place" / label / f"{number}.png")
    return tmp_path / "place"


def signed_files(folder):
    return {path: path.read_bytes() for path in (folder / "rounds").rglob("*") if path.is_file()}


def test_a_device_answers_by_its_own_images(classifier, device_folder, labelled):
    paths = sorted(labelled.rglob("*.png"))
    true = np.array([forge.LABELS.index(path.parent.name) for path in paths])
    logits, signed = classifier.logits(paths), signed_files(device_folder)
    assert classifier.calibration is None and all(one.known for one in classifier.predict(paths))
    made = classifier.calibrate(labelled)
    assert made.calibration == calibration_of(logits, true, 0.05) == classifier.calibration
    sure = confidences(logits, made.calibration.temperature)
    for one, confidence in zip(classifier.predict(paths), sure, strict=True):
        assert one.probability == pytest.approx(confidence, abs=1e-6)
        assert one.known == (one.probability >= made.calibration.threshold)
        assert one.label == (one.guess if one.known else "unknown")
    np.testing.assert_array_equal(classifier.logits(paths), logits)
    assert made.accuracy == (logits.argmax(1) == true).mean()
    assert (made.unknown_before, made.unknown_after) == (0.0, (sure < made.calibration.threshold).mean())
    assert signed_files(device_folder) == signed, "what was signed is as it was"
    classifier.uncalibrate()
    assert classifier.calibration is None


def test_another_process_takes_it_up_at_its_next_start_or_reload(classifier, device_folder, labelled):
    with EdgeClassifier(device_folder, provider="cpu") as other:
        made = other.calibrate(labelled, false_reject_rate=0.1).calibration
    assert classifier.calibration is None
    assert classifier.reload() is None and classifier.calibration == made
    with EdgeClassifier(device_folder, provider="cpu") as again:
        assert again.calibration == made and made.false_reject_rate == 0.1


def test_it_is_for_its_round_alone_and_comes_back_with_it(classifier, labelled, updates):
    made = classifier.calibrate(labelled).calibration
    classifier.update(updates(2, 200))
    assert classifier.calibration is None
    assert "this device was calibrated for sequence 100: for 200 the bundle's own counts" in classifier.warnings
    classifier.rollback()
    assert classifier.calibration == made and not any("calibrated" in text for text in classifier.warnings)


def test_the_bundles_own_rate_is_taken_and_its_threshold_replaced(tmp_path, signer, public, labelled):
    from fedclip_edge.runtime import install

    told = forge.calibration(1) | {"false_reject_rate": 0.2}
    install(tmp_path / "d", forge.bundle(tmp_path / "b", key=signer, calibration=told), keys=[public], provider="cpu")
    with EdgeClassifier(tmp_path / "d", provider="cpu") as classifier:
        assert classifier.calibration.to_json() == told
        made = classifier.calibrate(labelled).calibration
        assert (made.false_reject_rate, made.images) == (0.2, COUNT) and classifier.calibration == made


@pytest.mark.parametrize("spoilt", [b"{", b"[]", b"{}", b'{"sequence": "100"}'])
def test_a_damaged_file_is_said_and_the_bundles_own_counts(classifier, device_folder, labelled, spoilt):
    classifier.calibrate(labelled)
    (device_folder / "calibration.json").write_bytes(spoilt)
    with EdgeClassifier(device_folder, provider="cpu") as again:
        assert again.calibration is None
        (said,) = [text for text in again.warnings if "calibration.json" in text]
        assert "the bundle's own calibration counts; calibrate anew" in said


@pytest.mark.parametrize("rate", [0.01, 1.0, -0.1, True, "5 %"])
def test_what_cannot_be_is_refused_and_nothing_is_kept(classifier, device_folder, labelled, rate):
    with pytest.raises(ExportError, match=r"too few to calibrate|false_reject_rate = "):
        classifier.calibrate(labelled, rate)
    assert not (device_folder / "calibration.json").exists()


def test_a_bundle_as_delivered_is_not_calibrated(delivered, public, labelled):
    with EdgeClassifier(delivered, keys=[public], provider="cpu") as classifier:
        with pytest.raises(ExportError, match="install it to a device folder"):
            classifier.calibrate(labelled)
        with pytest.raises(ExportError, match="install it to a device folder"):
            classifier.uncalibrate()


def test_a_full_disk_leaves_what_was(classifier, labelled, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("fedclip_edge.device.own_calibration.write_file", full)
    with pytest.raises(BundleError, match="cannot be written"):
        classifier.calibrate(labelled)
    assert classifier.calibration is None


def test_the_command_calibrates_and_takes_back(edge, device_folder, labelled):
    common = ("--provider", "cpu")
    code, out, _ = edge("calibrate", device_folder, labelled, *common)
    assert code == 0 and out.startswith(f"calibrated by {COUNT} images, for sequence 100: temperature ")
    assert "expected calibration error" in out
    told = json.loads(edge("calibrate", device_folder, labelled, "--false-reject-rate", "0.2", "--json", *common)[1])
    assert told["own"] and told["sequence"] == 100 and told["calibration"]["false_reject_rate"] == 0.2
    assert json.loads((device_folder / "calibration.json").read_text()) == {"sequence": 100, **told["calibration"]}
    assert edge("calibrate", device_folder, "--reset", *common)[:2] == (0, "no answer is unknown\n")
    assert json.loads(edge("calibrate", device_folder, "--reset", "--json", *common)[1]) == {
        "calibration": None, "own": False
    }  # fmt: skip
    assert not (device_folder / "calibration.json").exists()


def test_labels_without_images_are_named(edge, device_folder, labelled):
    (labelled / "horse").rename(labelled.parent / "elsewhere")
    code, out, err = edge("calibrate", device_folder, labelled, "--false-reject-rate", "0", "--provider", "cpu")
    assert code == 0 and "no answer is unknown" in out
    assert "note: no image is of horse: give some, or expect less there\n" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "calibrate takes a folder <label>/<image>, or --reset"),
        (["{place}", "--reset"], "calibrate takes a folder <label>/<image>, or --reset"),
        (["--reset", "--false-reject-rate", "0.1"], "--reset takes no --false-reject-rate"),
        (["{place}", "--false-reject-rate", "0.01"], "48 labelled images are too few to calibrate with"),
        (["/nowhere"], "/nowhere is no folder"),
    ],
)
def test_the_command_says_what_is_wrong(edge, device_folder, labelled, words, said):
    given = [word.format(place=labelled) for word in words]
    code, _, err = edge("calibrate", device_folder, *given, "--provider", "cpu")
    assert code == 2 and said in err and err.count("\n") == 1
