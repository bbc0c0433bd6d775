"""``fedclip-edge``: what people and programs read, whatever the labels, the names and the reader."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fedclip_edge.bundle import keys
from fedclip_edge.cli import edge_doctor as doctor_module
from fedclip_edge.errors import MissingPackageError, ProviderError
from fedclip_edge.runtime import sessions
from fedclip_edge.runtime.providers import CPU, CUDA, ProviderState
from tests.support import forge
from tests.support.paths import EDGE


def expected(path):
    logits = (forge.features([np.asarray(Image.open(path))]) @ forge.head_weights(1).T)[0]
    powers = np.exp(logits - logits.max())
    order = np.argsort(-logits)
    return [(forge.LABELS[index], float(powers[index] / powers.sum())) for index in order]


def test_predict_prints_aligned_lines_and_then_who_said_so(edge, delivered, public, pictures):
    code, out, err = edge("predict", delivered, *pictures, "--top", 2, "--key", public)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 2
    for line, path in zip(lines, pictures, strict=True):
        text = "  ".join(f"{label} {value:.3f}" for label, value in expected(path)[:2])
        assert line == f"{str(path).ljust(len(str(pictures[1])))}  {text}"
    assert err.startswith("round 1, sequence 100, signed by key ")


def test_predict_without_a_key_says_so_once(edge, delivered, pictures):
    err = edge("predict", delivered, pictures[0], "--allow-unsigned")[2]
    assert err.splitlines()[0] == "round 1, sequence 100, signature not checked (no key)"
    assert err.count("not checked") == 1


def test_predict_as_json(edge, delivered, pictures):
    code, out, err = edge("predict", delivered, *pictures, "--json", "--provider", "cpu", "--allow-unsigned")
    told = json.loads(out)
    assert code == 0 and err == ""
    assert {key: told[key] for key in ("product", "round", "sequence", "key_id", "provider")} == {
        "product": "fedclip", "round": 1, "sequence": 100, "key_id": None, "provider": CPU
    }  # fmt: skip
    for answer, path in zip(told["answers"], pictures, strict=True):
        assert list(answer) == ["image", "label", "guess", "known", "probability", "top"]
        assert answer["image"] == str(path) and answer["known"] and answer["guess"] == answer["label"]
        for found, (label, value) in zip(answer["top"], expected(path), strict=True):
            assert found["label"] == label and found["probability"] == pytest.approx(value, abs=1e-5)


def test_an_answer_below_the_threshold_is_unknown_with_its_guess_beside(edge, tmp_path, pictures):
    ranked = [expected(path) for path in pictures]
    threshold = sum(own[0][1] for own in ranked) / 2
    told = {"temperature": 1.5, "threshold": threshold, "false_reject_rate": 0.05, "images": 336}
    folder = forge.bundle(tmp_path / "calibrated", calibration=told)
    out = edge("predict", folder, *pictures, "--top", 1, "--allow-unsigned")[1]
    answers = json.loads(edge("predict", folder, *pictures, "--json", "--allow-unsigned")[1])["answers"]
    assert {answer["known"] for answer in answers} == {True, False}
    for line, answer, own in zip(out.splitlines(), answers, ranked, strict=True):
        label, value = own[0]
        known = value >= threshold
        assert line.endswith(f"  {label} {value:.3f}" if known else f"  unknown  {label} {value:.3f}")
        assert (answer["label"], answer["guess"]) == (label if known else "unknown", label)
    said = edge("verify", folder, "--allow-unsigned")[1]
    assert f"below a probability of {threshold:.3g} (5 % of 336 known images), at temperature 1.5" in said


def test_a_bad_image_is_named_and_the_others_are_answered(edge, delivered, pictures, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    code, out, err = edge("predict", delivered, pictures[0], bad, pictures[1], "--allow-unsigned")
    assert code == 2 and len(out.splitlines()) == 2
    assert f"fedclip-edge: cannot read image {bad}: " in err
    code, out, _ = edge("predict", delivered, pictures[0], bad, "--json", "--allow-unsigned")
    answers = json.loads(out)["answers"]
    assert code == 2 and answers[0]["label"] in forge.LABELS and answers[1].keys() == {"image", "error"}


def test_verify_tells_what_a_bundle_holds(edge, delivered, public):
    code, out, _ = edge("verify", delivered, "--key", public)
    assert code == 0 and out.splitlines()[0] == f"{delivered}: bundle accepted"
    for text in (
        "round      1 of fedclip, sequence 100",
        "signature  by key ",
        "labels     3: dog, cat, horse",
        "encoder    tiny, fp32, 4 features",
        "valid      without limit",
        f"head.onnx {len(forge.head()) / 1e3:.1f} kB",
    ):
        assert text in out
    assert "golden logits; images within" in out


def test_verify_tells_what_was_spent_of_privacy(edge, tmp_path):
    folder = forge.bundle(tmp_path / "private", privacy=forge.PRIVACY)
    told = edge("verify", folder, "--allow-unsigned")[1]
    assert "  privacy    of each training image: epsilon 7.25, delta 1e-05\n" in told
    assert json.loads(edge("verify", folder, "--allow-unsigned", "--json")[1])["privacy"] == forge.PRIVACY
    plain = forge.bundle(tmp_path / "plain")
    assert "privacy" not in edge("verify", plain, "--allow-unsigned")[1]
    assert json.loads(edge("verify", plain, "--allow-unsigned", "--json")[1])["privacy"] is None


def test_verify_as_json(edge, delivered, public):
    told = json.loads(edge("verify", delivered, "--key", public, "--json")[1])
    assert (told["kind"], told["round"], told["precision"]) == ("bundle", 1, "fp32")
    assert set(told["bytes"]) == {"head.onnx", "encoder.onnx", "preprocess.onnx"}
    assert told["self_test"]["head"] <= 1e-4 and told["self_test"]["cosine"] == pytest.approx(1, abs=1e-5)


def test_dates_beyond_the_calendar_are_printed_as_seconds(edge, tmp_path):
    forge.bundle(tmp_path / "bundle", expires=2**52)
    assert f"until {2**52} s UTC" in edge("verify", tmp_path / "bundle", "--allow-unsigned")[1]


# ---------------------------------------------------------------- readers and terminals


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_a_reader_that_leaves_early_ends_it_quietly(delivered, pictures, json_too):
    images = [str(pictures[0])] * 40
    command = [
        sys.executable,
        "-m",
        "fedclip_edge.cli",
        "predict",
        str(delivered),
        *images,
        "--allow-unsigned",
        *json_too,
    ]
    with subprocess.Popen(command, cwd=EDGE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_what_a_terminal_would_obey_is_escaped(edge, tmp_path, signer):
    labels = ["na\u00efve", "red \x1b[31m", "two\nlines"]
    folder, device = forge.bundle(tmp_path / "strange", key=signer, labels=labels), tmp_path / "device"
    forge.update(tmp_path / "update", key=signer)
    picture = tmp_path / "a\x07b.png"
    Image.new("RGB", (8, 8)).save(picture)
    for words in (
        ("predict", folder, picture),
        ("predict", folder, tmp_path / "no\x07.png"),
        ("verify", folder),
        ("update", device, folder),
        ("update", device, tmp_path / "update"),
        ("verify", folder, "--key", tmp_path / "no\x07.pub"),
    ):
        _, out, err = edge(*words, "--allow-unsigned")
        assert all(c == "\n" or c.isprintable() for c in out + err) and "Traceback" not in err
    code, out, _ = edge("predict", folder, picture, "--allow-unsigned")
    assert code == 0 and len(out.splitlines()) == 1
    assert "a\\x07b.png" in out and "red \\x1b[31m" in out and "two\\nlines" in out and "na\u00efve" in out


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_labels_and_names_that_stdout_cannot_encode_are_escaped(tmp_path, json_too):
    folder = forge.bundle(tmp_path / "strange", labels=["na\u00efve", "\u732b", "horse"])
    picture = os.fsencode(tmp_path) + b"/\xff.png"
    with open(picture, "wb") as stream:  # noqa: PTH123 - a name that is no text
        Image.new("RGB", (8, 8)).save(stream, "PNG")
    command = [sys.executable, "-m", "fedclip_edge.cli", "predict", folder, picture, "--allow-unsigned", *json_too]
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, cwd=EDGE, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0 and done.stdout.isascii() and "\\udcff.png" in done.stdout
    if json_too:
        answer = json.loads(done.stdout)["answers"][0]
        assert {each["label"] for each in answer["top"]} == {"na\u00efve", "\u732b", "horse"}
    else:
        assert "na\\xefve" in done.stdout and "\\u732b" in done.stdout


# ---------------------------------------------------------------- bench and doctor


def test_bench_measures_every_stage(edge, delivered):
    code, out, _ = edge("bench", delivered, "--threads", 1, "--allow-unsigned")
    assert code == 0
    for text in (
        "preprocess 640 x 480",
        "encoder",
        "head",
        "all",
        "images per second",
        "new head",
        "all is measured in a run of its own",
        "1 thread",
    ):
        assert text in out
    told = json.loads(edge("bench", delivered, "--json", "--allow-unsigned")[1])
    assert set(told["stages"]) == {"preprocess", "encoder", "head", "all"}
    assert min(told["open_ms"], told["swap_ms"], *told["images_per_second"].values()) > 0


def test_doctor_reports_versions_providers_and_a_folder(edge, delivered, public):
    code, out, _ = edge("doctor", delivered, "--key", public)
    assert code == 0 and out.endswith("fit to serve\n")
    for text in ("python", "numpy", "pillow", "cryptography", "onnxruntime", CPU, "verified: round 1, sequence 100"):
        assert text in out


def test_doctor_finds_faults(edge, tmp_path, monkeypatch):
    def missing():
        raise MissingPackageError("onnxruntime is not installed")

    code, out, _ = edge("doctor", tmp_path, "--allow-unsigned")
    assert code == 1 and "refused (missing-file)" in out and "1 fault:" in out
    monkeypatch.setattr(doctor_module, "clash", lambda: "both are installed")
    assert "FAULT" in edge("doctor")[1]
    monkeypatch.setattr(doctor_module, "examine", missing)
    code, out, _ = edge("doctor", "--json")
    assert code == 1 and json.loads(out)["faults"] == 1


def test_doctor_says_why_a_listed_provider_cannot_load(edge, monkeypatch):
    states = [ProviderState(CUDA, "libcudart.so.12 not found"), ProviderState(CPU, "")]
    monkeypatch.setattr(doctor_module, "examine", lambda: states)
    code, out, _ = edge("doctor")
    assert code == 0 and "listed, but cannot load: libcudart.so.12 not found" in out


def test_doctor_without_a_folder_tries_the_options_all_the_same(edge, tmp_path, public, monkeypatch):
    def choose(provider):
        raise ProviderError(f"{provider} cannot be used")

    code, out, _ = edge("doctor", "--key", public, "--provider", "cpu", "--threads", 1)
    assert code == 0 and f"{public} is key {keys.load_public_keys([public])[0].id}" in out and f"{CPU}, 1 thread" in out
    code, out, _ = edge("doctor", "--key", tmp_path / "none.pub")
    assert code == 1 and "none.pub cannot be read" in out
    monkeypatch.setattr(sessions, "choose", choose)
    code, out, _ = edge("doctor", "--provider", "cuda")
    assert code == 1 and "FAULT  options" in out and "cuda cannot be used" in out
