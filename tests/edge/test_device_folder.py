"""A device folder: how it is laid out, what an update changes in it, what it refuses, and the way back."""

import stat

import pytest

from fedclip_edge.bundle import Trust, open_bundle
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError
from tests.support import forge, tampering
from tests.support.device_steps import current, install, names, opened, reason, tree


def test_nothing_is_installed_at_first(tmp_path, held):
    device = Device(tmp_path / "device")
    assert not device.exists and device.installed() is None
    assert device.trust("any", held) == Trust(held, "any")
    assert not device.folder.exists()
    assert reason(lambda: device.state) == reason(device.rollback) == "device-state"


def test_the_first_bundle_is_laid_out(device, held):
    base = next((device.folder / "base").iterdir()).name
    assert len(base) == 16 and int(base, 16) >= 0
    assert tree(device.folder) == sorted(
        [
            "lock",
            "state.json",
            f"keys/{held[0].id}.pub",
            f"base/{base}/encoder.onnx",
            f"base/{base}/preprocess.onnx",
            "rounds/100/head.onnx",
            "rounds/100/manifest.json",
            "rounds/100/manifest.sig",
        ]
    )
    state = {"schema": 1, "product": "fedclip", "sequence": 100, "current": "100", "previous": None, "keyed": True}
    assert (device.folder / "state.json").read_bytes() == forge.canonical(state)
    bundle = current(device)
    assert bundle.encoder.read_bytes() == forge.encoder() and bundle.preprocess == forge.preprocess()
    assert bundle.key_id == held[0].id and bundle.head == forge.head(1) and device.fallback is None
    written = [path for part in ("base", "rounds") for path in (device.folder / part).rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o444}


def test_updates_swap_the_head_and_keep_one_round_to_fall_back_to(device, tmp_path, signer):
    encoder = current(device).encoder.stat().st_ino
    for number in (2, 3, 4):
        install(device, forge.update(tmp_path / f"u{number}", round=number, sequence=100 * number, key=signer))
        bundle = current(device)
        assert bundle.head == forge.head(number) and bundle.manifest.round == number
        assert bundle.encoder.stat().st_ino == encoder
    assert names(device.folder / "rounds") == ["300", "400"]
    assert (device.state.current, device.state.previous, device.installed().sequence) == ("400", "300", 400)


def test_external_data_is_installed_with_its_encoder(tmp_path, signer, held):
    device = Device(tmp_path / "device")
    device.create(opened(device, forge.bundle(tmp_path / "full", key=signer, external=True), held), held)
    install(device, forge.update(tmp_path / "update", key=signer, external=True))
    encoder = current(device).encoder
    assert encoder.with_name("encoder.onnx.data").read_bytes() == forge.encoder_outside()[1]
    assert reason(install, device, forge.update(tmp_path / "u2", sequence=300, key=signer)) == "other-encoder"


def test_a_full_bundle_brings_another_encoder_and_the_way_back_stays(device, tmp_path, signer):
    first = current(device).encoder.parent
    install(device, forge.bundle(tmp_path / "full", round=2, sequence=200, key=signer, encoder_seed=4))
    assert current(device).encoder.read_bytes() == forge.encoder(4) and first.exists()
    device.rollback()
    assert current(device).encoder.read_bytes() == forge.encoder() and device.fallback is None
    install(device, forge.bundle(tmp_path / "third", round=3, sequence=300, key=signer))
    install(device, forge.update(tmp_path / "fourth", round=4, sequence=400, key=signer))
    assert list((device.folder / "base").iterdir()) == [first]


def test_another_product_is_refused(device, tmp_path, signer):
    folder = forge.update(tmp_path / "update", key=signer, product="other")
    assert reason(install, device, folder) == "product"


def test_a_device_begins_with_a_full_bundle(tmp_path, device, signer):
    update = open_bundle(
        forge.update(tmp_path / "update", key=signer), Trust(allow_unsigned=True), installed=device.installed()
    )
    assert reason(Device(tmp_path / "new").create, update) == "incomplete"


def test_a_folder_in_use_is_not_taken(tmp_path, device, delivered):
    bundle = open_bundle(delivered, Trust(allow_unsigned=True))
    assert reason(device.create, bundle) == "device-state"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    assert reason(Device(tmp_path / "home").create, bundle) == "device-state"
    assert tree(tmp_path / "home") == ["thesis.tex"]


def test_a_round_that_expires_after_its_installation_goes_on_serving(tmp_path, signer, held):
    device = Device(tmp_path / "device")
    device.create(opened(device, forge.bundle(tmp_path / "full", key=signer, expires=forge.NOW + 1), held), held)
    with pytest.raises(BundleError, match="expired"):
        open_bundle(tmp_path / "full", Trust(held), now=forge.NOW + 1)
    assert current(device).manifest.expires == forge.NOW + 1


# ---------------------------------------------------------------- going back


def test_a_local_rollback_does_not_let_the_update_in_again(device, tmp_path, signer):
    folder = forge.update(tmp_path / "update", key=signer)
    install(device, folder)
    device.rollback()
    assert current(device).manifest.round == 1 and device.fallback is None
    assert (device.state.sequence, device.installed().sequence) == (200, 200)
    with pytest.raises(BundleError, match="sequence 200 was accepted before and left by a rollback") as caught:
        install(device, folder)
    assert caught.value.reason == "replay"
    tampering.flipped("head.onnx")(device.folder / "rounds" / "100", None)
    assert device.installed().sequence == 200, "damage of the round that was gone back to does not reopen the way"
    tampering.flipped("head.onnx")(device.folder / "rounds" / "100", None)
    assert reason(install, device, forge.update(tmp_path / "older", sequence=150, key=signer)) == "rollback"
    assert reason(device.rollback) == "device-state"
    install(device, forge.update(tmp_path / "next", round=3, sequence=300, key=signer))
    assert (device.state.current, device.state.previous) == ("300", "100")
    assert names(device.folder / "rounds") == ["100", "300"]


def test_a_rollback_of_another_state_than_was_seen_is_refused(device, tmp_path, signer):
    install(device, forge.update(tmp_path / "update", key=signer))
    seen = device.state
    install(device, forge.update(tmp_path / "next", round=3, sequence=300, key=signer))
    with pytest.raises(BundleError, match=r"another process changed .* meanwhile; try again"):
        device.rollback(seen)
    assert current(device).manifest.round == 3
    device.rollback(device.state)
    assert current(device).manifest.round == 2


def test_a_round_that_cannot_be_used_is_no_way_back(device, tmp_path, signer):
    install(device, forge.update(tmp_path / "update", key=signer))

    def use(bundle):
        if bundle.manifest.round == 2:
            raise BundleError("self-test", "self-test failed: wrong; export anew")
        return bundle.manifest.round

    assert device.serve(device.trust("fedclip"), forge.RUNTIME, use) == 1
    assert device.fallback == (
        "round 2 on this device cannot be used (self-test failed: wrong; export anew); until then, round 1 answers"
    )
    assert device.installed().sequence == 200, "what is not damaged is not to be installed again"
    install(device, forge.update(tmp_path / "next", round=3, sequence=300, key=signer))
    assert (device.state.current, device.state.previous) == ("300", "100")


def test_a_rollback_to_a_damaged_round_is_refused(device, tmp_path, signer):
    install(device, forge.update(tmp_path / "update", key=signer))
    tampering.flipped("head.onnx")(device.folder / "rounds" / "100", None)
    assert reason(device.rollback) == "hash"
    assert current(device).manifest.round == 2
