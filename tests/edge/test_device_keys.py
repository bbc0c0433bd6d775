"""The keys of a device folder: enforced ever after, rotated by a copy, kept from an update, and missed when lost."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from fedclip_edge.bundle import Trust, keys, open_bundle
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError, ExportError
from tests.support import forge
from tests.support.device_steps import crashes_at, current, install, names, opened, reason
from tests.support.forged_bundles import attacked


def test_keys_of_the_first_installation_are_enforced_ever_after(device, tmp_path, signer):
    assert reason(install, device, forge.update(tmp_path / "unsigned")) == "unsigned"
    mallory = attacked(tmp_path / "mallory", "signed with an unknown key", signer)
    assert reason(install, device, mallory) == "signature"
    careless = open_bundle(tmp_path / "unsigned", Trust(allow_unsigned=True), installed=device.installed())
    assert reason(device.commit, careless) == "unsigned"


def test_a_key_that_did_not_sign_the_first_bundle_is_not_stored(tmp_path, delivered):
    other, device = keys.generate(tmp_path / "other"), Device(tmp_path / "device")
    bundle = open_bundle(delivered, Trust(allow_unsigned=True))
    assert reason(device.create, bundle, [other]) == "unsigned"
    assert not device.folder.exists()


def test_no_call_adds_trust_to_a_device_that_holds_keys(device, tmp_path, signer, held):
    keys.generate(tmp_path / "new")
    (new,) = keys.load_public_keys([tmp_path / "new.pub"])
    folder = forge.update(tmp_path / "update", key=tmp_path / "new")
    with pytest.raises(ExportError) as caught:
        device.trust("fedclip", [*held, new])
    assert str(caught.value) == (
        f"{device.folder} enforces its own keys ({held[0].id}); {tmp_path / 'new.pub'} ({new.id}) is not one of them. "
        f"To rotate, copy the .pub into {device.folder / 'keys'}"
    )
    assert device.trust("fedclip", held) == device.trust("fedclip") == Trust(held)
    shutil.copy(tmp_path / "new.pub", device.folder / "keys")
    install(device, folder)
    assert current(device).key_id == new.id and reason(device.trust, "other") == "product"


def test_a_key_that_was_rotated_out_is_no_longer_trusted(device, tmp_path, signer, held):
    keys.generate(tmp_path / "new")
    shutil.copy(tmp_path / "new.pub", device.folder / "keys")
    (device.folder / "keys" / f"{held[0].id}.pub").unlink()
    assert reason(current, device) == "signature"
    assert reason(install, device, forge.update(tmp_path / "old", key=signer)) == "signature"
    install(device, forge.update(tmp_path / "update", round=2, sequence=200, key=tmp_path / "new"))
    assert current(device).manifest.round == 2 and device.state.previous is None


def test_the_way_back_to_a_round_whose_key_was_removed_is_told(device, tmp_path, held):
    keys.generate(tmp_path / "new")
    shutil.copy(tmp_path / "new.pub", device.folder / "keys")
    install(device, forge.update(tmp_path / "update", key=tmp_path / "new"))
    (device.folder / "keys" / f"{held[0].id}.pub").unlink()
    with pytest.raises(
        BundleError, match=r"^round 1 is signed by none of the keys in \S+; its key was removed"
    ) as caught:
        device.rollback()
    assert caught.value.reason == "signature" and current(device).manifest.round == 2


def test_a_device_without_keys_keeps_those_of_its_first_signed_update(tmp_path, delivered, signer, held):
    device = Device(tmp_path / "device")
    device.create(open_bundle(delivered, Trust(allow_unsigned=True)))
    assert device.keys == () and current(device).key_id is None
    assert current(device, held).key_id == held[0].id and device.keys == (), "looking stores nothing"
    update = opened(device, forge.update(tmp_path / "update", key=signer), held)
    device.commit(update, held)
    assert device.keys == held and names(device.folder / "keys") == [f"{held[0].id}.pub"]
    assert device.state.previous == "100"
    unsigned = forge.update(tmp_path / "unsigned", round=3, sequence=300)
    assert reason(install, device, unsigned) == "unsigned"


def test_keys_that_did_not_sign_the_update_are_not_kept(tmp_path, signer, held):
    device = Device(tmp_path / "device")
    device.create(open_bundle(forge.bundle(tmp_path / "full"), Trust(allow_unsigned=True)))
    unsigned = opened(device, forge.update(tmp_path / "unsigned"))
    assert reason(device.commit, unsigned, held) == "unsigned" and device.keys == ()
    device.commit(opened(device, forge.update(tmp_path / "signed", key=signer), held), held)
    assert device.keys == held and device.state.previous is None, "no way back to what the keys do not cover"
    assert reason(device.rollback) == "device-state"


def test_a_key_that_was_copied_to_a_device_without_any_is_enforced_for_good(tmp_path, delivered, signer, public, held):
    device = Device(tmp_path / "device")
    device.create(open_bundle(delivered, Trust(allow_unsigned=True)))
    assert not device.state.keyed
    (device.folder / "keys").mkdir()
    shutil.copy(public, device.folder / "keys")
    assert device.trust("fedclip") == Trust(held)
    install(device, forge.update(tmp_path / "update", key=signer))
    assert device.state.keyed
    (device.folder / "keys" / public.name).unlink()
    assert reason(device.trust, "fedclip") == "device-state"


def no_reading(monkeypatch):
    """Let a folder of keys refuse to be listed, as it does to another user than root."""
    listed = Path.iterdir

    def iterdir(path):
        if path.name == "keys":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)


LOST = {
    "no folder": lambda place, patch: shutil.rmtree(place),
    "empty folder": lambda place, patch: [path.unlink() for path in place.iterdir()],
    "other names": lambda place, patch: [path.rename(path.with_suffix(".old")) for path in list(place.iterdir())],
    "a file in its place": lambda place, patch: (shutil.rmtree(place), place.write_text("x")),
    "rubbish": lambda place, patch: [path.write_text("rubbish") for path in place.iterdir()],
    "not to be listed": lambda place, patch: no_reading(patch),
}


@pytest.mark.parametrize("name", LOST)
def test_lost_keys_are_damage_and_no_permission(name, device, tmp_path, held, monkeypatch):
    unsigned = open_bundle(
        forge.update(tmp_path / "unsigned"), Trust(allow_unsigned=True), installed=device.installed()
    )
    LOST[name](device.folder / "keys", monkeypatch)
    for act in (
        lambda: device.trust("fedclip"),
        lambda: device.trust("fedclip", held),
        lambda: device.keys,
        device.installed,
        device.rollback,
        lambda: device.commit(unsigned),
        lambda: device.commit(unsigned, held),
    ):
        with pytest.raises(BundleError, match=r"put the \.pub back into \S+/keys$") as caught:
            act()
        assert caught.value.reason == "device-state"
    assert device.state.current == "100"


def test_a_crash_while_the_first_keys_are_stored_leaves_a_device_that_opens(tmp_path, delivered, signer, held):
    plain = Device(tmp_path / "plain")
    plain.create(open_bundle(delivered, Trust(allow_unsigned=True)))
    update, step, seen = forge.update(tmp_path / "update", key=signer), 0, []
    while True:
        device = Device(shutil.copytree(plain.folder, tmp_path / f"device{step}"))
        bundle = opened(device, update, held)
        died = crashes_at(step, lambda device=device, bundle=bundle: device.commit(bundle, held))
        assert current(device).manifest.round in (1, 2)
        seen.append((device.state.keyed, bool(device.keys)))
        if not died:
            break
        step += 1
    assert set(seen) == {(False, False), (False, True), (True, True)} and seen == sorted(seen)
