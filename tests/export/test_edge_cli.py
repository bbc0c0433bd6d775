"""``fedclip-edge``: what it prints, what programs read, and its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import forge
import numpy as np
import pytest
from PIL import Image

from fedclip_export.bundle import keys
from fedclip_export.edge import commands, main
from fedclip_export.edge import doctor as doctor_module
from fedclip_export.edge import verify as verify_module
from fedclip_export.errors import BundleError, MissingPackageError, ProviderError
from fedclip_export.runtime import providers, sessions
from fedclip_export.runtime.providers import CPU, CUDA, ProviderState

EXPORT = Path(__file__).resolve().parents[2] / "export"


@pytest.fixture
def edge(capsys):
    """Return a function that runs one command and gives its exit code, stdout and stderr."""

    def run(*words):
        code = main([str(word) for word in words])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def device(tmp_path, delivered, public, edge):
    assert edge("update", tmp_path / "device", delivered, "--key", public)[0] == 0
    return tmp_path / "device"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / "a.png", folder / "longer name.png"]
    for seed, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 8, 3), dtype=np.uint8)).save(path)
    return paths


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
    err = edge("predict", delivered, pictures[0])[2]
    assert err.splitlines()[0] == "round 1, sequence 100, signature not checked (no key)"
    assert err.count("not checked") == 1


def test_predict_as_json(edge, delivered, pictures):
    code, out, err = edge("predict", delivered, *pictures, "--json", "--provider", "cpu")
    told = json.loads(out)
    assert code == 0 and err == ""
    assert {key: told[key] for key in ("product", "round", "sequence", "key_id", "provider")} == {
        "product": "fedclip", "round": 1, "sequence": 100, "key_id": None, "provider": CPU
    }  # fmt: skip
    for answer, path in zip(told["answers"], pictures, strict=True):
        assert list(answer) == ["image", "label", "probability", "top"] and answer["image"] == str(path)
        for found, (label, value) in zip(answer["top"], expected(path), strict=True):
            assert found["label"] == label and found["probability"] == pytest.approx(value, abs=1e-5)


def test_a_bad_image_is_named_and_the_others_are_answered(edge, delivered, pictures, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    code, out, err = edge("predict", delivered, pictures[0], bad, pictures[1])
    assert code == 2 and len(out.splitlines()) == 2
    assert f"fedclip-edge: cannot read image {bad}: " in err
    code, out, _ = edge("predict", delivered, pictures[0], bad, "--json")
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


def test_verify_as_json(edge, delivered, public):
    told = json.loads(edge("verify", delivered, "--key", public, "--json")[1])
    assert (told["kind"], told["round"], told["precision"]) == ("bundle", 1, "fp32")
    assert set(told["bytes"]) == {"head.onnx", "encoder.onnx", "preprocess.onnx"}
    assert told["self_test"]["head"] <= 1e-4 and told["self_test"]["cosine"] == pytest.approx(1, abs=1e-5)


def test_verify_an_update_against_a_device_installs_nothing(edge, device, tmp_path, signer):
    forge.update(tmp_path / "update", key=signer, expires=4_000_000_000, not_before=1_000_000_000)
    code, out, _ = edge("verify", tmp_path / "update", "--against", device)
    assert code == 0 and "update accepted" in out and "round      2" in out
    assert "from 2001-09-09 01:46:40 UTC until 2096-10-02 07:06:40 UTC" in out
    code, out, _ = edge("verify", device, "--json")
    assert (json.loads(out)["kind"], json.loads(out)["sequence"]) == ("device", 100)


def test_verify_of_a_device_that_fell_back_says_so(edge, device, tmp_path, signer):
    edge("update", device, forge.update(tmp_path / "update", key=signer))
    forge.overwrite(device / "rounds" / "200" / "head.onnx", b"damaged")
    code, out, err = edge("verify", device)
    assert code == 0 and "round      1" in out and "note: round 2 on this device cannot be used" in err
    told = json.loads(edge("verify", device, "--json")[1])
    assert told["sequence"] == 100 and "round 2" in told["warnings"][0]


def test_dates_beyond_the_calendar_are_printed_as_seconds(edge, tmp_path):
    forge.bundle(tmp_path / "bundle", expires=2**52)
    assert f"until {2**52} s UTC" in edge("verify", tmp_path / "bundle")[1]


@pytest.mark.parametrize("name", ["bit flip in head.onnx", "signed with an unknown key", "same sequence"])
def test_a_refusal_is_one_line_with_its_reason(edge, device, tmp_path, signer, name):
    reason = forge.ATTACKS[name].reason
    folder = forge.attacked(tmp_path / "attacked", name, signer)
    for command in (("verify", folder, "--against", device), ("update", device, folder)):
        code, out, err = edge(*command)
        assert (code, out) == (1, "") and err.startswith(f"fedclip-edge: refused ({reason}): ")
        assert len(err.splitlines()) == 1
        code, out, _ = edge(*command, "--json")
        assert code == 1 and json.loads(out)["error"]["reason"] == reason
    with pytest.raises(BundleError):
        edge("update", device, folder, "--debug")


def test_update_installs_then_updates_and_rollback_goes_back(edge, tmp_path, delivered, signer, public, pictures):
    device = tmp_path / "device"
    code, out, err = edge("update", device, delivered, "--key", public)
    assert (code, out) == (0, "installed round 1\n") and "signed by key" in err
    forge.update(tmp_path / "update", key=signer, labels=["dog", "cat", "zebra"])
    code, out, err = edge("update", device, tmp_path / "update")
    assert (code, out) == (0, "round 1 -> 2: head replaced; new label zebra; label horse gone\n")
    assert "round 2, sequence 200, signed by key" in err
    assert edge("predict", device, pictures[0])[2].startswith("round 2, sequence 200")
    told = json.loads(edge("rollback", device, "--json")[1])
    assert (told["old_sequence"], told["sequence"], told["encoder_replaced"]) == (200, 100, False)
    code, _, err = edge("rollback", device)
    assert code == 1 and "no earlier round" in err


def test_update_as_json_says_whether_it_installed(edge, tmp_path, delivered, signer):
    first = json.loads(edge("update", tmp_path / "device", delivered, "--json")[1])
    assert first["installed"] and first["sequence"] == 100 and first["old_round"] is None
    assert first["encoder_replaced"] and first["labels_added"] == list(forge.LABELS)
    forge.bundle(tmp_path / "full", 2, 200, key=signer, encoder_seed=3)
    second = json.loads(edge("update", tmp_path / "device", tmp_path / "full", "--json")[1])
    assert not second["installed"] and second["encoder_replaced"] and second["old_round"] == 1
    assert list(first) == list(second)


def test_a_first_installation_that_is_refused_leaves_no_device(edge, tmp_path, delivered, signer):
    forge.update(tmp_path / "update", key=signer)
    code, _, err = edge("update", tmp_path / "device", tmp_path / "update")
    assert code == 1 and "refused (incomplete)" in err and not (tmp_path / "device").exists()
    code, _, err = edge("rollback", delivered)
    assert code == 2 and "is a bundle as delivered, not a device folder; name a new folder" in err


@pytest.mark.parametrize("kind", ["head", "base"])
def test_a_damaged_device_is_mended_by_command(edge, device, delivered, kind):
    damaged = {"head": device / "rounds" / "100" / "head.onnx", "base": next(device.glob("base/*/encoder.onnx"))}[kind]
    forge.flipped(damaged.name)(damaged.parent, None)
    way = {"head": "give the same update again", "base": "export a full bundle (fedclip-export bundle)"}[kind]
    code, _, err = edge("verify", device)
    assert code == 1 and way in err
    assert edge("update", device, delivered)[:2] == (0, "installed round 1\n")
    assert edge("verify", device)[0] == 0
    code, _, err = edge("update", device, delivered)
    assert code == 1 and "refused (replay)" in err


def test_rollback_of_a_device_that_fell_back_gives_the_damaged_round_up(edge, device, tmp_path, signer):
    edge("update", device, forge.update(tmp_path / "update", key=signer))
    forge.overwrite(device / "rounds" / "200" / "head.onnx", b"damaged")
    code, out, _ = edge("doctor", device)
    assert code == 1 and "FAULT  folder" in out and "round 2 on this device cannot be used" in out
    code, out, err = edge("rollback", device)
    assert (code, out) == (0, "round 2 is damaged and was given up; round 1 goes on\n") and "note" not in err
    assert edge("doctor", device)[0] == 0


@pytest.mark.parametrize("signed", [True, False])
def test_a_key_given_to_a_device_without_any_is_kept_by_an_update(edge, tmp_path, signer, public, pictures, signed):
    device = tmp_path / "device"
    edge("update", device, forge.bundle(tmp_path / "full", key=signer if signed else None))
    code, _, err = edge("predict", device, pictures[0], "--key", public)
    assert (code, "signed by key" in err) == ((0, True) if signed else (1, False))
    code, _, err = edge("update", device, forge.update(tmp_path / "update", key=signer), "--key", public)
    name = keys.load_public_keys([public])[0].id
    assert code == 0 and err.splitlines()[-1] == f"note: key {name} is kept and enforced from now on"
    assert [path.stem for path in (device / "keys").iterdir()] == [name]
    forge.update(tmp_path / "third", 3, 300, key=signer)
    assert "note" not in edge("update", device, tmp_path / "third", "--key", public)[2]


def test_a_key_that_the_device_does_not_hold_is_bad_input(edge, device, tmp_path, pictures):
    keys.generate(tmp_path / "other")
    code, _, err = edge("predict", device, pictures[0], "--key", tmp_path / "other.pub")
    assert code == 2 and "other.pub (" in err and "To rotate, copy the .pub into" in err


def test_names_that_are_no_folders_are_told(edge, device, delivered, tmp_path, pictures, signer):
    update, nowhere, photo = forge.update(tmp_path / "update", key=signer), tmp_path / "nosuch", pictures[0]
    for words in (
        ("predict", nowhere, photo),
        ("bench", nowhere),
        ("verify", nowhere),
        ("rollback", nowhere),
        ("verify", update, "--against", nowhere),
        ("update", device, nowhere),
    ):
        assert edge(*words) == (2, "", f"fedclip-edge: there is no folder {nowhere}\n")
    for command in ("predict", "bench", "verify"):
        rest = (photo,) if command == "predict" else ()
        code, _, err = edge(command, photo, *rest)
        assert code == 2 and f"{photo} is a file; the first argument is a bundle or a device folder" in err
    for words in (("update", photo, update), ("rollback", photo)):
        code, _, err = edge(*words)
        assert code == 2 and f"{photo} is a file; the first argument is a device folder" in err
    for words in (("update", delivered, update), ("rollback", delivered)):
        code, _, err = edge(*words)
        assert code == 2 and f"{delivered} is a bundle as delivered, not a device folder; name a new folder" in err
    code, _, err = edge("predict", delivered, tmp_path)
    assert code == 2 and f"it is a folder; give its files, such as {tmp_path}/*.jpg" in err
    code, out, _ = edge("doctor", nowhere)
    assert code == 1 and f"there is no folder {nowhere}" in out


def test_verify_of_an_update_asks_what_it_is_for(edge, tmp_path, signer):
    code, _, err = edge("verify", forge.update(tmp_path / "update", key=signer))
    assert code == 1 and "this is an update: name what it is for with --against DEVICE" in err


def test_another_product_is_told_with_and_without_a_device(edge, device, delivered, tmp_path, signer):
    code, _, err = edge("verify", delivered, "--product", "other")
    assert code == 1 and "for the product 'fedclip', so --product other does not fit" in err
    forge.update(tmp_path / "update", key=signer, product="other")
    code, _, err = edge("update", device, tmp_path / "update")
    assert code == 1 and "this device is 'fedclip'; fetch its own" in err


def test_without_onnxruntime_files_and_signatures_are_verified(edge, device, delivered, tmp_path, signer, monkeypatch):
    monkeypatch.setattr(verify_module, "find_spec", lambda name: None)
    monkeypatch.setattr(providers, "importlib", None)
    forge.update(tmp_path / "update", key=signer)
    for words in ((device,), (tmp_path / "update", "--against", device)):
        code, out, err = edge("verify", *words)
        assert (code, err) == (0, "")
        assert "onnxruntime is not installed: files and signature checked, answers not tested" in out
    code, out, _ = edge("verify", delivered)
    assert code == 0 and "onnxruntime is not installed: files checked, answers not tested" in out
    assert json.loads(edge("verify", delivered, "--json")[1])["self_test"] is None
    for name in ("bit flip in head.onnx", "signed with an unknown key", "older sequence"):
        folder = forge.attacked(tmp_path / name, name, signer)
        code, _, err = edge("verify", folder, "--against", device)
        assert code == 1 and f"refused ({forge.ATTACKS[name].reason})" in err


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_a_reader_that_leaves_early_ends_it_quietly(delivered, pictures, json_too):
    images = [str(pictures[0])] * 40
    command = [sys.executable, "-m", "fedclip_export.edge", "predict", str(delivered), *images, *json_too]
    with subprocess.Popen(command, cwd=EXPORT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
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
        _, out, err = edge(*words)
        assert all(c == "\n" or c.isprintable() for c in out + err) and "Traceback" not in err
    code, out, _ = edge("predict", folder, picture)
    assert code == 0 and len(out.splitlines()) == 1
    assert "a\\x07b.png" in out and "red \\x1b[31m" in out and "two\\nlines" in out and "na\u00efve" in out


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_labels_and_names_that_stdout_cannot_encode_are_escaped(tmp_path, json_too):
    folder = forge.bundle(tmp_path / "strange", labels=["na\u00efve", "\u732b", "horse"])
    picture = os.fsencode(tmp_path) + b"/\xff.png"
    with open(picture, "wb") as stream:  # noqa: PTH123 - a name that is no text
        Image.new("RGB", (8, 8)).save(stream, "PNG")
    command = [sys.executable, "-m", "fedclip_export.edge", "predict", folder, picture, *json_too]
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(command, cwd=EXPORT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0 and done.stdout.isascii() and "\\udcff.png" in done.stdout
    if json_too:
        answer = json.loads(done.stdout)["answers"][0]
        assert {each["label"] for each in answer["top"]} == {"na\u00efve", "\u732b", "horse"}
    else:
        assert "na\\xefve" in done.stdout and "\\u732b" in done.stdout


def test_an_interrupted_command_says_so_and_no_more(edge, delivered, pictures, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "open_classifier", interrupted)
    assert edge("predict", delivered, *pictures) == (130, "", "fedclip-edge: interrupted\n")


def test_bench_measures_every_stage(edge, delivered):
    code, out, _ = edge("bench", delivered, "--threads", 1)
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
    told = json.loads(edge("bench", delivered, "--json")[1])
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

    code, out, _ = edge("doctor", tmp_path)
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


@pytest.mark.parametrize("given", ["0", "-1", "x", "1.5", "", "9999999999999"])
def test_a_number_that_is_none_is_told_without_names_of_the_program(given, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["bench", "x", f"--threads={given}"])
    told = capsys.readouterr().err
    assert caught.value.code == 2 and f"{given!r} is not a whole number of at least 1" in told


def test_threads_without_end_are_refused(edge, delivered):
    code, _, err = edge("verify", delivered, "--threads", 257)
    assert code == 2 and "threads = 257: give 1 to 256" in err


@pytest.mark.parametrize(
    "words", [["predict"], ["predict", "x", "y", "--top", "0"], ["update", "x"], ["verify", "x", "--provider", "tpu"]]
)
def test_bad_words_are_refused_by_the_parser(words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


def test_a_key_that_is_none_is_bad_input(edge, delivered, tmp_path):
    code, _, err = edge("verify", delivered, "--key", tmp_path / "none.pub")
    assert code == 2 and err.startswith("fedclip-edge: ") and "none.pub" in err
