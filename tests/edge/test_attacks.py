"""Every way to tamper that forge_attacks.py knows meets its own refusal, before and after it reaches a device."""

import onnx
import pytest

from fedclip_edge.bundle import Installed, Trust, keys, open_bundle, write_bundle
from fedclip_edge.bundle.manifest import Manifest
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError
from tests.support import forge, tampering
from tests.support.forged_bundles import ATTACKS, attacked

OPENING = [name for name, attack in ATTACKS.items() if attack.judge == "opening"]
# Every code of the contract but incomplete and device-state, which take more than a tampered folder.
CODES = """missing-file too-large not-regular unsigned signature not-json duplicate-key schema malformed
product replay rollback not-yet-valid expired other-encoder other-preprocess feature-width runtime-too-old unlisted-file
file-name size hash graph not-finite labels self-test"""


@pytest.fixture
def scene(tmp_path, signer, public):
    """Return what a device demands and what it has: arguments for ``open_bundle``."""
    trust = Trust(keys.load_public_keys([public]), forge.PRODUCT)
    first = open_bundle(forge.bundle(tmp_path / "first", key=signer), trust, now=forge.NOW)
    return {
        "trust": trust,
        "installed": first.installed(),
        "runtime": forge.RUNTIME,
        "now": forge.NOW,
    }


def refusal(folder, scene):
    with pytest.raises(BundleError) as caught:
        open_bundle(folder, **scene)
    return caught.value


@pytest.mark.parametrize("name", OPENING)
def test_an_attack_is_refused_with_its_code(name, tmp_path, signer, scene):
    error = refusal(attacked(tmp_path / "victim", name, signer), scene)
    assert error.reason == ATTACKS[name].reason
    assert len(str(error)) > 30


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in OPENING])
def test_what_onnxruntime_or_the_self_test_notices_opens(name, tmp_path, signer, scene):
    folder = attacked(tmp_path / "victim", name, signer)
    assert open_bundle(folder, **scene).manifest.sequence == 200


def test_every_code_of_the_contract_is_met_by_an_attack():
    assert {attack.reason for attack in ATTACKS.values()} == set(CODES.split())


@pytest.mark.parametrize("make", [forge.bundle, forge.update])
def test_the_victims_themselves_are_good(make, tmp_path, signer, scene):
    opened = open_bundle(make(tmp_path / "good", round=2, sequence=200, key=signer), **scene)
    assert opened.key_id == scene["trust"].keys[0].id
    assert opened.head == forge.head(2)
    assert (opened.encoder is None) == (opened.preprocess is None) == opened.manifest.is_update


def test_an_update_without_a_device_is_incomplete(tmp_path, signer, scene):
    folder = forge.update(tmp_path / "update", key=signer)
    assert refusal(folder, scene | {"installed": None}).reason == "incomplete"


def test_a_full_bundle_may_bring_another_encoder(tmp_path, signer, scene):
    folder = forge.bundle(tmp_path / "new", sequence=200, key=signer, encoder_seed=4)
    opened = open_bundle(folder, **scene)
    assert opened.installed().encoder != scene["installed"].encoder


def test_without_a_key_a_bundle_is_refused_be_it_signed_or_not(tmp_path, signer, scene):
    scene |= {"trust": Trust()}
    assert refusal(forge.update(tmp_path / "signed", key=signer), scene).reason == "signature"
    assert refusal(forge.update(tmp_path / "unsigned"), scene).reason == "unsigned"


def test_unsigned_bundles_are_never_allowed_where_a_key_is_held(tmp_path, signer, scene):
    scene |= {"trust": Trust(scene["trust"].keys, allow_unsigned=True)}
    assert refusal(forge.update(tmp_path / "unsigned"), scene).reason == "unsigned"
    assert refusal(attacked(tmp_path / "bad", "signed with an unknown key", signer), scene).reason == "signature"


def test_where_unsigned_bundles_are_allowed_hashes_are_checked_and_nobody_is_named(tmp_path, signer, scene):
    scene |= {"trust": Trust(allow_unsigned=True)}
    opened = open_bundle(forge.update(tmp_path / "signed", key=signer), **scene)
    assert opened.key_id is None and len(opened.signature) == 64
    assert open_bundle(forge.update(tmp_path / "unsigned"), **scene).signature is None
    assert refusal(attacked(tmp_path / "bad", "bit flip in head.onnx", signer), scene).reason == "hash"


def test_a_signature_that_cannot_be_one_is_refused_even_without_a_key(tmp_path, signer, scene):
    folder = attacked(tmp_path / "bad", "empty signature", signer)
    assert refusal(folder, scene | {"trust": Trust(allow_unsigned=True)}).reason == "signature"


def test_any_of_several_keys_suffices_and_is_named(tmp_path, signer, scene):
    other = keys.generate(tmp_path / "other")
    mine = scene["trust"].keys[0]
    folder = forge.update(tmp_path / "update", key=signer)
    for held in ((mine, other), (other, mine)):
        assert open_bundle(folder, **scene | {"trust": Trust(held)}).key_id == mine.id
    assert refusal(folder, scene | {"trust": Trust((other,))}).reason == "signature"


def test_the_signature_is_checked_before_a_byte_is_parsed(tmp_path, signer, scene):
    folder = attacked(tmp_path / "bad", "not JSON", signer)
    (folder / "manifest.sig").write_bytes(b"\0" * 64)
    assert refusal(folder, scene).reason == "signature"


def test_validity_ends_at_its_second(tmp_path, signer, scene):
    folder = forge.update(tmp_path / "update", key=signer, not_before=forge.NOW, expires=forge.NOW + 1)
    assert open_bundle(folder, **scene)
    for moment, reason in ((forge.NOW - 1, "not-yet-valid"), (forge.NOW + 1, "expired")):
        assert refusal(folder, scene | {"now": moment}).reason == reason


@pytest.mark.parametrize("runtime", ["1.16.0", "1.16", "1.26.0+cu12", "2.0", "1.100.1.dev20260101"])
def test_a_runtime_that_is_new_enough(runtime, tmp_path, signer, scene):
    assert open_bundle(forge.update(tmp_path / "update", key=signer), **scene | {"runtime": runtime})


def test_a_runtime_that_is_too_old_by_number_not_by_spelling(tmp_path, signer, scene):
    folder = forge.update(tmp_path / "update", key=signer)
    assert refusal(folder, scene | {"runtime": "1.9.1"}).reason == "runtime-too-old"


def test_a_linked_folder_is_fine(tmp_path, signer, scene):
    forge.update(tmp_path / "v12", key=signer)
    (tmp_path / "current").symlink_to("v12")
    assert open_bundle(tmp_path / "current", **scene)


def test_external_data_of_the_encoder_is_hashed_too(tmp_path, signer, scene):
    scene |= {"installed": None}
    folder = forge.bundle(tmp_path / "outside", key=signer, external=True)
    assert open_bundle(folder, **scene).encoder == folder / "encoder.onnx"
    tampering.flipped("encoder.onnx.data")(folder, signer)
    assert refusal(folder, scene).reason == "hash"
    (folder / "encoder.onnx.data").unlink()
    assert refusal(folder, scene).reason == "missing-file"


@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "sub/encoder.onnx.data", "encoder.onnx"])
def test_external_data_is_the_listed_file_and_no_other(place, tmp_path, signer, scene):
    folder = forge.bundle(tmp_path / "outside", key=signer, external=True)
    tampering.replaced("encoder.onnx", lambda: forge.encoder_outside(0, place)[0])(folder, signer)
    error = refusal(folder, scene | {"installed": None})
    assert error.reason == "graph" and "points to weights in a file that the manifest does not list" in str(error)


def test_a_label_that_is_called_location_is_no_external_data(tmp_path, signer, scene):
    made = onnx.load_from_string(forge.head(2))
    onnx.helper.set_model_props(made, {"labels": '["location"]', "note": "a location of an image"})
    folder = forge.update(tmp_path / "update", key=signer)
    tampering.replaced("head.onnx", made.SerializeToString)(folder, signer)
    assert open_bundle(folder, **scene)


@pytest.mark.parametrize("make", [forge.bundle, forge.update])
def test_what_an_operating_system_leaves_behind_is_passed_over(make, tmp_path, signer, scene):
    folder = make(tmp_path / "good", round=2, sequence=200, key=signer)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._head.onnx", "Icon\r"):
        (folder / name).write_bytes(b"junk")
    (folder / "__MACOSX").mkdir()
    assert open_bundle(folder, **scene).manifest.sequence == 200
    (folder / ".hidden").write_bytes(b"")
    assert refusal(folder, scene).reason == "unlisted-file"


def test_a_new_bundle_is_written_whole_or_not_at_all(tmp_path, signer, public, scene):
    source = forge.bundle(tmp_path / "source", sequence=200)
    manifest = Manifest.from_bytes((source / "manifest.json").read_bytes())
    files = {
        "head.onnx": forge.head(1),
        "preprocess.onnx": forge.preprocess(),
        "encoder.onnx": source / "encoder.onnx",
    }
    write_bundle(tmp_path / "deep" / "written", manifest, files, signer)
    assert open_bundle(tmp_path / "deep" / "written", **scene).key_id == keys.load_public_keys([public])[0].id

    wrong = [
        ("hash", files | {"head.onnx": forge.head(2)}),
        ("unlisted-file", files | {"more.onnx": b"x"}),
        ("unlisted-file", {"head.onnx": forge.head(1)}),
    ]
    for reason, given in wrong:
        with pytest.raises(BundleError) as caught:
            write_bundle(tmp_path / "deep" / "refused", manifest, given, signer)
        assert caught.value.reason == reason
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["written"]


def test_a_bundle_never_replaces_a_folder(tmp_path, delivered):
    manifest = Manifest.from_bytes((delivered / "manifest.json").read_bytes())
    with pytest.raises(Exception, match="exists; bundles are never overwritten"):
        write_bundle(delivered, manifest, {}, None)
    assert len(list(delivered.iterdir())) == 5


@pytest.mark.parametrize("name", ["same sequence", "older sequence", "other product", "unsigned", "other encoder"])
def test_a_device_refuses_what_was_opened_with_too_little_care(name, tmp_path, signer, public, delivered):
    """A caller that forgets ``installed`` or the keys cannot make the device forget them."""
    held = keys.load_public_keys([public])
    device = Device(tmp_path / "device")
    device.create(open_bundle(delivered, Trust(held), now=forge.NOW), held)
    folder = attacked(tmp_path / "victim", name, signer)
    manifest = Manifest.from_bytes((folder / "manifest.json").read_bytes())
    pretended = Installed(0, manifest.encoder_digest(), manifest.file("preprocess")[1].sha256, manifest.feature_dim)
    trust = Trust(() if name == "unsigned" else held, manifest.product, allow_unsigned=name == "unsigned")
    opened = open_bundle(folder, trust, now=forge.NOW, installed=pretended)
    before = device.state
    with pytest.raises(BundleError) as caught:
        device.commit(opened)
    assert caught.value.reason == ATTACKS[name].reason
    assert device.state == before and [path.name for path in (device.folder / "rounds").iterdir()] == ["100"]
