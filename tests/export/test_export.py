"""``fedclip-export`` as the engineer uses it: a bundle, an update, and what bad input gets."""

import dataclasses
import os
import shutil
import time
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from PIL import Image

from fedclip_edge.bundle import Manifest, Trust, open_bundle
from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.runtime import EdgeClassifier, install
from fedclip_export import check_images, export_bundle, parity
from fedclip_export.cli import main
from fedclip_export.graphs.finalize import to_bytes
from fedclip_export.graphs.preprocess import preprocess_graph, read_spec
from fedclip_export.release import vacant
from fedclip_export.source import Source, read_source
from fedclip_miniature import CLASSES, ensure_miniature
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.cli.main import main as fedclip
from fedclip_plugin.runs import load_adapter, lock
from tests.support.random_adapters import fresh_adapter, write_adapter
from tests.support.tiffs import tiff
from tests.support.workshop import IMAGES_PER_CLASS

TWO_DAYS_ON = time.time() + 2 * 86_400


@pytest.fixture(scope="module")
def place(tmp_path_factory, workshop):
    """A folder with two rounds' adapters, a key pair, a signed bundle of one day and a signed update; and images."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "images").symlink_to(ensure_miniature(workshop.data, IMAGES_PER_CLASS))
    write_adapter(folder / "round_3", round=3, seed=0)
    write_adapter(folder / "round_4", round=4, seed=1)
    key = folder / "keys" / "release"
    assert main(["keygen", str(key)]) == 0
    assert export(folder, "round_3", "bundle", "--sign", str(key), "--sequence", "100", "--valid-days", "1") == 0
    update = ["update", "--adapter", str(folder / "round_4"), "--against", str(folder / "bundle")]
    assert main([*update, "--out", str(folder / "update"), "--sign", str(key)]) == 0
    return folder


@pytest.fixture
def few_checks(monkeypatch):
    """Compare with PyTorch on a third of the images; the bundle of ``place`` was compared on all."""
    monkeypatch.setattr(check_images, "CHECK", 40)
    monkeypatch.setattr(check_images, "FEWEST", 40)


@pytest.fixture(scope="module")
def photo(place):
    path = place / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((300, 190)).save(path)
    return path


def export(folder, adapter, out, *words):
    known = ["--adapter", str(folder / adapter), "--out", str(folder / out), "--calibrate", str(folder / "images")]
    return main(["bundle", *known, *words])


def trust(place):
    return Trust(load_public_keys([place / "keys" / "release.pub"]))


def test_the_bundle_describes_its_adapter(place):
    bundle = open_bundle(place / "bundle", trust(place))
    manifest = bundle.manifest
    assert (manifest.round, manifest.sequence, manifest.labels) == (3, 100, tuple(CLASSES))
    assert (manifest.feature_dim, manifest.image_size, manifest.precision) == (128, 64, "fp32")
    assert bundle.key_id == load_public_keys([place / "keys" / "release.pub"])[0].id
    assert float(manifest.parity["fp32"]["max_dlogit_files"]) <= parity.FILES_TOLERANCE
    assert manifest.parity["fp32"]["images"] == "142"
    assert str(place) not in bundle.raw.decode()


@pytest.mark.parametrize("private", [True, False])
def test_an_update_says_what_was_spent_of_the_images_privacy(place, tmp_path, capsys, private):
    spent = {"epsilon": 7.987654321, "delta": 1e-5}
    adapter = write_adapter(tmp_path / "private", round=5, metrics={"validation": 0.5} | (spent if private else {}))
    words = ["--adapter", str(adapter), "--against", str(place / "bundle"), "--out", str(tmp_path / "update")]
    assert main(["update", *words, "--sign", str(place / "keys" / "release")]) == 0
    told = capsys.readouterr().out
    assert ("differential privacy of each training image: epsilon 7.99, delta 1e-05" in told) == private
    manifest = Manifest.from_bytes((tmp_path / "update" / "manifest.json").read_bytes())
    assert manifest.privacy == (spent if private else None)
    head = onnx.load(tmp_path / "update" / "head.onnx")
    kept = {entry.key: float(entry.value) for entry in head.metadata_props if entry.key in spent}
    assert kept == (spent if private else {})


@pytest.mark.parametrize("epsilon", [-1.0, float("inf"), float("nan"), True, "8", None])
def test_an_epsilon_that_is_none_is_not_handed_on(epsilon):
    saved = dataclasses.replace(fresh_adapter(), metrics={"epsilon": epsilon, "delta": 1e-5})
    assert Source(saved, "").manifest_fields()["privacy"] is None


def test_a_device_answers_as_the_trainer_does(place, photo, capsys):
    capsys.readouterr()
    assert fedclip(["predict", str(place / "round_3"), str(photo), "--top", str(len(CLASSES))]) == 0
    told = capsys.readouterr().out.split()[1:]
    trained = dict(zip(told[::2], map(float, told[1::2]), strict=True))
    answer = EdgeClassifier(place / "bundle", keys=[place / "keys" / "release.pub"]).predict(photo, top=len(CLASSES))
    assert dict(answer.top) == pytest.approx(trained, abs=1e-3)


def test_an_update_carries_the_head_alone_and_changes_the_answer(place, photo):
    device = place / "device"
    install(device, place / "bundle", keys=[place / "keys" / "release.pub"])
    with EdgeClassifier(device) as classifier:
        before = classifier.predict(photo)
        classifier.update(place / "update")
        after = classifier.predict(photo)
    assert sorted(path.name for path in (place / "update").iterdir()) == ["head.onnx", "manifest.json", "manifest.sig"]
    assert (before.round, after.round) == (3, 4)
    assert not np.array_equal(before.logits, after.logits)


def test_an_update_scales_wide_samples_as_its_adapter_does(place):
    """Over all 12 bits, what was black is as bright as the same picture of 8 bits."""
    samples = np.random.default_rng(0).integers(0, 4096, (90, 131)).astype(np.uint16)
    (place / "wide.tif").write_bytes(tiff(samples))
    write_adapter(place / "ranged", round=4, seed=1, sample_range=(0.0, 4095.0))
    words = ["update", "--adapter", str(place / "ranged"), "--against", str(place / "bundle"), "--sequence", "300"]
    assert main([*words, "--out", str(place / "ranged_update"), "--sign", str(place / "keys" / "release")]) == 0
    install(place / "wide_device", place / "bundle", keys=[place / "keys" / "release.pub"])
    with EdgeClassifier(place / "wide_device", provider="cpu") as classifier:
        dark = classifier.encode(place / "wide.tif")
        classifier.update(place / "ranged_update")
        assert classifier.manifest.sample_range == (0, 4095)
        eight = np.repeat((samples >> 4).astype(np.uint8)[..., None], 3, axis=2)
        np.testing.assert_array_equal(classifier.encode(place / "wide.tif"), classifier.encode(eight))
        assert not np.array_equal(classifier.encode(place / "wide.tif"), dark)


def test_half_precision_storage_halves_the_update(place):
    out = place / "half"
    words = ["update", "--adapter", str(place / "round_4"), "--against", str(place / "bundle"), "--out", str(out)]
    assert main([*words, "--store", "fp16"]) == 0
    ratio = (out / "head.onnx").stat().st_size / (place / "update" / "head.onnx").stat().st_size
    assert ratio < 0.55


@pytest.mark.usefixtures("few_checks")
@pytest.mark.parametrize("precision", ["fp16", "int8-weights", "auto"])
def test_every_precision_passes_its_gate_and_opens(place, precision):
    out = f"bundle_{precision}"
    assert export(place, "round_3", out, "--precision", precision) == 0
    manifest = open_bundle(place / out, Trust(allow_unsigned=True)).manifest
    assert manifest.precision in ({precision} if precision != "auto" else set(export_bundle.AUTO))
    row = manifest.parity[manifest.precision]
    assert float(row["centred_cosine"]) >= parity.LOWEST_COSINE
    assert float(row["top1_agreement"]) >= parity.LOWEST_TOP1


@pytest.mark.usefixtures("few_checks")
def test_drawings_and_external_data_give_the_same_encoder(place, photo):
    words = ["--adapter", str(place / "round_3"), "--out", str(place / "bundle_external"), "--external-data"]
    assert main(["bundle", *words]) == 0
    assert (place / "bundle_external" / "encoder.onnx.data").stat().st_size > 1e6
    one, other = (
        EdgeClassifier(place / name, allow_unsigned=True).predict(photo).logits
        for name in ("bundle", "bundle_external")
    )
    assert np.array_equal(one, other)


@pytest.mark.usefixtures("few_checks")
def test_beyond_tolerance_nothing_is_written(place, capsys, monkeypatch):
    monkeypatch.setattr(parity, "PIXELS_TOLERANCE", 0.0)
    assert export(place, "round_3", "refused") == 1
    assert "does not answer as PyTorch does" in capsys.readouterr().err
    assert not list(place.glob("*refused*"))


@pytest.mark.usefixtures("few_checks")
def test_auto_falls_back_to_full_precision_when_the_gate_is_out_of_reach(place, monkeypatch):
    monkeypatch.setattr(parity, "LOWEST_COSINE", 1 - 1e-7)
    assert export(place, "round_3", "bundle_fallback", "--precision", "auto") == 0
    manifest = open_bundle(place / "bundle_fallback", Trust(allow_unsigned=True)).manifest
    assert manifest.precision == "fp32"
    assert set(manifest.parity) == set(export_bundle.AUTO)


def test_too_few_images_are_refused(place, capsys):
    few = place / "images" / "photo"
    words = ["bundle", "--adapter", str(place / "round_3"), "--out", str(place / "bundle_few")]
    assert main([*words, "--calibrate", str(few), "--precision", "int8"]) == 2
    assert "holds 84 images; int8 takes 64 to calibrate and 100 to check" in capsys.readouterr().err


def test_an_existing_folder_is_never_written_over(place, capsys):
    assert export(place, "round_3", "bundle") == 2
    assert "never written over" in capsys.readouterr().err


def test_a_second_export_of_a_name_is_refused_and_leftovers_go(place, capsys, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.0)
    out = place / "twice"
    words = ["update", "--adapter", str(place / "round_4"), "--against", str(place / "bundle"), "--out", str(out)]
    left = place / ".twice.ab12.tmp"
    left.mkdir()
    with vacant(out):
        assert not left.exists()
        assert main(words) == 2
        assert f"{out} is in use by process {os.getpid()}" in capsys.readouterr().err
    assert main(words) == 0
    assert not list(place.glob(".*"))


def test_a_missing_adapter_is_named(place, capsys):
    assert export(place, "nowhere", "bundle_nowhere") == 2
    assert "holds no adapter.json" in capsys.readouterr().err


def test_an_update_for_another_backbone_is_refused(place, capsys):
    write_adapter(place / "foreign", fingerprint="ab" * 32)
    words = ["update", "--adapter", str(place / "foreign"), "--against", str(place / "bundle")]
    assert main([*words, "--out", str(place / "update_foreign")]) == 2
    assert "its features mean something else" in capsys.readouterr().err


def test_a_sequence_that_is_not_above_the_bundles_is_refused(place, capsys):
    words = ["update", "--adapter", str(place / "round_4"), "--against", str(place / "bundle"), "--sequence", "100"]
    assert main([*words, "--out", str(place / "update_old")]) == 2
    assert "not above 100" in capsys.readouterr().err


def test_a_key_is_never_overwritten(place, capsys):
    assert main(["keygen", str(place / "keys" / "release")]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert (place / "keys" / "release").stat().st_mode & 0o777 == 0o600


def test_evaluate_scores_an_adapter_on_the_features_of_the_device(place, workshop, capsys):
    images = str(ensure_miniature(workshop.data, 2, domains=["photo", "sketch"]))
    capsys.readouterr()
    assert fedclip(["evaluate", str(place / "round_3"), images, "--encoder", str(place / "bundle/encoder.onnx")]) == 0
    device = capsys.readouterr().out
    assert fedclip(["evaluate", str(place / "round_3"), images]) == 0
    assert device == capsys.readouterr().out
    assert "sketch" in device


@pytest.mark.parametrize("name", ["/home/someone/secret/clip", "../models/clip", r"C:\Users\someone\clip", "~/clip"])
def test_a_path_of_the_backbone_does_not_leave_the_machine(place, tmp_path, name):
    write_adapter(tmp_path / "adapter")
    saved = dataclasses.replace(load_adapter(tmp_path / "adapter"), backbone=name)
    assert Source(saved, "").backbone_name == "clip"
    assert "clip" not in str(Source(saved, "").backbone_metadata())


def test_a_hub_name_stays_whole(place):
    saved = dataclasses.replace(load_adapter(place / "round_3"), backbone="openai/clip-vit-base-patch32")
    assert Source(saved, "").backbone_name == "openai/clip-vit-base-patch32"


def test_an_expired_bundle_still_gets_updates(place, monkeypatch):
    assert open_bundle(place / "bundle", trust(place)).manifest.expires < TWO_DAYS_ON
    monkeypatch.setattr(time, "time", lambda: TWO_DAYS_ON)
    words = ["update", "--adapter", str(place / "round_4"), "--against", str(place / "bundle")]
    assert main([*words, "--out", str(place / "update_later")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sign", "nowhere"], "nowhere"),
        (["--sequence", str(2**53)], "not a whole number from 1 to"),
        (["--valid-days", "9999999"], "not a whole number from 1 to 36500"),
    ],
)
def test_a_bad_release_is_refused_before_the_work(place, capsys, monkeypatch, words, message):
    monkeypatch.setattr(export_bundle, "encoder_graph", None)
    try:
        code = export(place, "round_3", "bundle_release", *words)
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_evaluate_refuses_parts_of_different_bundles(place, tmp_path, capsys):
    for name in ("encoder.onnx", "head.onnx"):
        shutil.copy(place / "bundle" / name, tmp_path)
    other = write_adapter(tmp_path / "adapter", fingerprint="ab" * 32)
    source = read_source(other)
    graph = preprocess_graph(read_spec(locate_backbone("clip-tiny")), source.backbone_metadata())
    (tmp_path / "preprocess.onnx").write_bytes(to_bytes(graph))
    for name, message in (("encoder.onnx", "different backbones"), ("head.onnx", "is not a graph from")):
        words = ["evaluate", str(place / "round_3"), str(place / "images"), "--encoder", str(tmp_path / name)]
        assert fedclip(words) == 2
        assert message in capsys.readouterr().err


def test_a_backbone_that_takes_long_is_not_timed_for_minutes(monkeypatch):
    runs, seconds = [], iter(range(0, 1_000, 6))

    def encode(pixels):
        runs.append(len(pixels))
        return pixels

    monkeypatch.setattr(parity, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    slow = SimpleNamespace(encode=encode, logits=lambda features: features)
    assert parity._latencies({"slow": slow}, np.zeros((2, 3), np.float32)) == {"slow": {1: 6000.0, 8: 6000.0}}
    assert runs == [1, 8]
