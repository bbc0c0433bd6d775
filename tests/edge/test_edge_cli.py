"""``fedclip-edge``: what its commands do to a device, what they refuse, and their exit codes."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fedclip_edge import terminal
from fedclip_edge.bundle import keys
from fedclip_edge.cli import commands, main
from fedclip_edge.errors import BundleError
from fedclip_edge.runtime import providers
from tests.support import forge, tampering
from tests.support.forged_bundles import ATTACKS, attacked


@pytest.fixture
def device(tmp_path, delivered, public, edge):
    assert edge("update", tmp_path / "device", delivered, "--key", public)[0] == 0
    return tmp_path / "device"


def test_verify_an_update_against_a_device_installs_nothing(edge, device, tmp_path, signer):
    forge.update(tmp_path / "update", key=signer, expires=4_000_000_000, not_before=1_000_000_000)
    code, out, _ = edge("verify", tmp_path / "update", "--against", device)
    assert code == 0 and "update accepted" in out and "round      2" in out
    assert "from 2001-09-09 01:46:40 UTC until 2096-10-02 07:06:40 UTC" in out
    code, out, _ = edge("verify", device, "--json")
    assert (json.loads(out)["kind"], json.loads(out)["sequence"]) == ("device", 100)


def test_verify_of_a_device_that_fell_back_says_so(edge, device, tmp_path, signer):
    edge("update", device, forge.update(tmp_path / "update", key=signer))
    tampering.overwrite(device / "rounds" / "200" / "head.onnx", b"damaged")
    code, out, err = edge("verify", device)
    assert code == 0 and "round      1" in out and "note: round 2 on this device cannot be used" in err
    told = json.loads(edge("verify", device, "--json")[1])
    assert told["sequence"] == 100 and "round 2" in told["warnings"][0]


@pytest.mark.parametrize("name", ["bit flip in head.onnx", "signed with an unknown key", "same sequence"])
def test_a_refusal_is_one_line_with_its_reason(edge, device, tmp_path, signer, name):
    reason = ATTACKS[name].reason
    folder = attacked(tmp_path / "attacked", name, signer)
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
    first = json.loads(edge("update", tmp_path / "device", delivered, "--json", "--allow-unsigned")[1])
    assert first["installed"] and first["sequence"] == 100 and first["old_round"] is None
    assert first["encoder_replaced"] and first["labels_added"] == list(forge.LABELS)
    forge.bundle(tmp_path / "full", 2, 200, key=signer, encoder_seed=3)
    second = json.loads(edge("update", tmp_path / "device", tmp_path / "full", "--json", "--allow-unsigned")[1])
    assert not second["installed"] and second["encoder_replaced"] and second["old_round"] == 1
    assert list(first) == list(second)


def test_without_a_key_nothing_is_opened_or_installed_unless_it_is_allowed(edge, tmp_path, delivered, pictures):
    forge.bundle(tmp_path / "unsigned")
    device = tmp_path / "device"
    for folder, reason in ((delivered, "signature"), (tmp_path / "unsigned", "unsigned")):
        for words in (
            ("predict", folder, pictures[0]),
            ("verify", folder),
            ("update", device, folder),
            ("bench", folder),
        ):
            code, out, err = edge(*words)
            assert (code, out) == (1, "") and f"refused ({reason})" in err and "--allow-unsigned" in err
    assert not device.exists()
    assert edge("update", device, tmp_path / "unsigned", "--allow-unsigned")[:2] == (0, "installed round 1\n")
    code, _, err = edge("predict", device, pictures[0])
    assert code == 1 and "refused (unsigned)" in err
    code, _, err = edge("predict", device, pictures[0], "--allow-unsigned")
    assert code == 0 and "signature not checked (no key)" in err


def test_a_first_installation_that_is_refused_leaves_no_device(edge, tmp_path, delivered, signer):
    forge.update(tmp_path / "update", key=signer)
    code, _, err = edge("update", tmp_path / "device", tmp_path / "update", "--allow-unsigned")
    assert code == 1 and "refused (incomplete)" in err and not (tmp_path / "device").exists()
    code, _, err = edge("rollback", delivered)
    assert code == 2 and "is a bundle as delivered, not a device folder; name a new folder" in err


@pytest.mark.parametrize("kind", ["head", "base"])
def test_a_damaged_device_is_mended_by_command(edge, device, delivered, kind):
    damaged = {"head": device / "rounds" / "100" / "head.onnx", "base": next(device.glob("base/*/encoder.onnx"))}[kind]
    tampering.flipped(damaged.name)(damaged.parent, None)
    way = {"head": "give the same update again", "base": "export a full bundle (fedclip-export bundle)"}[kind]
    code, _, err = edge("verify", device)
    assert code == 1 and way in err
    assert edge("update", device, delivered)[:2] == (0, "installed round 1\n")
    assert edge("verify", device)[0] == 0
    code, _, err = edge("update", device, delivered)
    assert code == 1 and "refused (replay)" in err


def test_rollback_of_a_device_that_fell_back_gives_the_damaged_round_up(edge, device, tmp_path, signer):
    edge("update", device, forge.update(tmp_path / "update", key=signer))
    tampering.overwrite(device / "rounds" / "200" / "head.onnx", b"damaged")
    code, out, _ = edge("doctor", device)
    assert code == 1 and "FAULT  folder" in out and "round 2 on this device cannot be used" in out
    code, out, err = edge("rollback", device)
    assert (code, out) == (0, "round 2 is damaged and was given up; round 1 goes on\n") and "note" not in err
    assert edge("doctor", device)[0] == 0


@pytest.mark.parametrize("signed", [True, False])
def test_a_key_given_to_a_device_without_any_is_kept_by_an_update(edge, tmp_path, signer, public, pictures, signed):
    device = tmp_path / "device"
    edge("update", device, forge.bundle(tmp_path / "full", key=signer if signed else None), "--allow-unsigned")
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
    code, _, err = edge("predict", delivered, tmp_path, "--allow-unsigned")
    assert code == 2 and f"it is a folder; give its files, such as {tmp_path}/*.jpg" in err
    code, out, _ = edge("doctor", nowhere)
    assert code == 1 and f"there is no folder {nowhere}" in out


def test_verify_of_an_update_asks_what_it_is_for(edge, tmp_path, signer):
    code, _, err = edge("verify", forge.update(tmp_path / "update", key=signer), "--allow-unsigned")
    assert code == 1 and "this is an update: name what it is for with --against DEVICE" in err


def test_another_product_is_told_with_and_without_a_device(edge, device, delivered, tmp_path, signer):
    code, _, err = edge("verify", delivered, "--product", "other", "--allow-unsigned")
    assert code == 1 and "for the product 'fedclip', so --product other does not fit" in err
    forge.update(tmp_path / "update", key=signer, product="other")
    code, _, err = edge("update", device, tmp_path / "update")
    assert code == 1 and "this device is 'fedclip'; fetch its own" in err


def test_without_onnxruntime_files_and_signatures_are_verified(edge, device, delivered, tmp_path, signer, monkeypatch):
    monkeypatch.setattr(commands, "find_spec", lambda name: None)
    monkeypatch.setattr(providers, "importlib", None)
    forge.update(tmp_path / "update", key=signer)
    for words in ((device,), (tmp_path / "update", "--against", device)):
        code, out, err = edge("verify", *words)
        assert (code, err) == (0, "")
        assert "onnxruntime is not installed: files and signature checked, answers not tested" in out
    code, out, _ = edge("verify", delivered, "--allow-unsigned")
    assert code == 0 and "onnxruntime is not installed: files checked, answers not tested" in out
    assert json.loads(edge("verify", delivered, "--json", "--allow-unsigned")[1])["self_test"] is None
    for name in ("bit flip in head.onnx", "signed with an unknown key", "older sequence"):
        folder = attacked(tmp_path / name, name, signer)
        code, _, err = edge("verify", folder, "--against", device)
        assert code == 1 and f"refused ({ATTACKS[name].reason})" in err


def test_an_interrupted_command_says_so_and_no_more(edge, delivered, pictures, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "open_classifier", interrupted)
    assert edge("predict", delivered, *pictures) == (130, "", "fedclip-edge: interrupted\n")


@pytest.mark.parametrize("program", ["fedclip_edge.cli", "fedclip_export.cli"])
@pytest.mark.parametrize("redirected", [">/dev/full", ">&-", ">/dev/full 2>&-"])
def test_output_that_cannot_be_written_is_one_line(program, redirected):
    start = shlex.join([sys.executable, "-c", f"from {program} import main; raise SystemExit(main(['--help']))"])
    line = ["bash", "-c", f"{start} {redirected}"]
    done = subprocess.run(line, cwd=Path(terminal.__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == ("2>" not in redirected)


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_what_the_system_refuses_is_named(edge, delivered, pictures, monkeypatch, json_too):
    def refused(*arguments):
        raise OSError(28, "No space left on device", "a\nb")

    monkeypatch.setattr(commands, "open_classifier", refused)
    code, out, err = edge("predict", delivered, *pictures, *json_too)
    assert code == 1
    assert err == "fedclip-edge: a\\nb: No space left on device; free space there, and run the same command again\n"
    assert not json_too or "No space left" in json.loads(out)["error"]["message"]


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
