"""Next keys: what a held key announces is held from then on, and nothing else is."""

import shutil

import pytest

from fedclip_edge.bundle import Trust, keys, open_bundle
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError
from fedclip_edge.runtime import EdgeClassifier, install
from tests.support import forge
from tests.support.device_steps import crashes_at, current, names, opened, reason
from tests.support.device_steps import install as commit


@pytest.fixture
def others(tmp_path):
    """Return a function that makes a key of this name and gives its path and its spelling in a manifest."""

    def make(name):
        public = keys.generate(tmp_path / name)
        return tmp_path / name, forge.base64_of(list(public.raw), "u1")

    return make


def ids(device):
    return {key.id for key in device.keys}


def id_of(path):
    return keys.load_public_keys([path.with_name(path.name + ".pub")])[0].id


def test_an_announced_key_is_held_once_the_update_is_accepted(device, tmp_path, signer, others):
    new, text = others("new")
    early = forge.update(tmp_path / "early", key=new)
    assert reason(commit, device, early) == "signature"
    folder = forge.update(tmp_path / "update", key=signer, next_keys=[text])
    bundle = opened(device, folder)
    assert ids(device) == {id_of(signer)}, "looking adds nothing"
    device.commit(bundle)
    assert ids(device) == {id_of(signer), id_of(new)}
    assert names(device.folder / "keys") == sorted(f"{key.id}.pub" for key in device.keys)
    commit(device, forge.update(tmp_path / "next", round=3, sequence=300, key=new))
    commit(device, forge.update(tmp_path / "old", round=4, sequence=400, key=signer))
    assert current(device).key_id == id_of(signer)


def test_keys_are_rotated_in_a_chain_and_the_first_one_is_removed(device, tmp_path, signer, others):
    (b, text_b), (c, text_c) = others("b"), others("c")
    commit(device, forge.update(tmp_path / "a", round=2, sequence=200, key=signer, next_keys=[text_b]))
    commit(device, forge.update(tmp_path / "b-signed", round=3, sequence=300, key=b, next_keys=[text_c]))
    (device.folder / "keys" / f"{id_of(signer)}.pub").unlink()
    assert current(device).key_id == id_of(b)
    assert reason(commit, device, forge.update(tmp_path / "stolen", sequence=400, key=signer)) == "signature"
    commit(device, forge.update(tmp_path / "c-signed", round=4, sequence=400, key=c))
    assert current(device).key_id == id_of(c) and ids(device) == {id_of(b), id_of(c)}


def test_the_first_bundle_and_a_later_full_one_announce_keys_too(tmp_path, signer, held, others):
    (b, text_b), (c, text_c) = others("b"), others("c")
    device = Device(tmp_path / "device")
    device.create(opened(device, forge.bundle(tmp_path / "first", key=signer, next_keys=[text_b, text_b]), held), held)
    assert ids(device) == {id_of(signer), id_of(b)} and device.state.keyed
    commit(device, forge.bundle(tmp_path / "full", round=2, sequence=200, key=b, next_keys=[text_c]))
    assert ids(device) == {id_of(signer), id_of(b), id_of(c)}


def test_an_unsigned_bundle_announces_nothing(tmp_path, others):
    _, text = others("mallory")
    device = Device(tmp_path / "device")
    device.create(opened(device, forge.bundle(tmp_path / "full", next_keys=[text])))
    commit(device, forge.update(tmp_path / "update", next_keys=[text]))
    assert device.keys == () and not device.state.keyed and not (device.folder / "keys").exists()


def test_the_first_keys_of_a_device_without_any_come_with_those_that_are_announced(tmp_path, signer, held, others):
    new, text = others("new")
    device = Device(tmp_path / "device")
    device.create(opened(device, forge.bundle(tmp_path / "full")))
    device.commit(opened(device, forge.update(tmp_path / "update", key=signer, next_keys=[text]), held), held)
    assert ids(device) == {id_of(signer), id_of(new)} and device.state.keyed


@pytest.mark.parametrize("fault", ["older", "other product", "self-test", "mallory", "unsigned"])
def test_a_refused_update_announces_nothing(fault, device_folder, tmp_path, signer, others):
    mallory, text = others("mallory")
    changes = {"older": {"sequence": 99}, "other product": {"product": "other"}, "self-test": {"head_seed": 9}}
    signers = {"mallory": mallory, "unsigned": None}
    folder = forge.update(
        tmp_path / "update", key=signers.get(fault, signer), next_keys=[text], **changes.get(fault, {})
    )
    with EdgeClassifier(device_folder, provider="cpu") as classifier, pytest.raises(BundleError):
        classifier.update(folder)
    with pytest.raises(BundleError):
        install(device_folder, folder, provider="cpu", allow_unsigned=True)
    assert ids(Device(device_folder)) == {id_of(signer)}


def test_a_careless_caller_cannot_make_a_device_hold_a_strangers_key(device, tmp_path, signer, others):
    mallory, text = others("mallory")
    folder = forge.update(tmp_path / "update", key=mallory, next_keys=[text])
    careless = open_bundle(folder, Trust(allow_unsigned=True), installed=device.installed())
    assert reason(device.commit, careless) == "unsigned" and ids(device) == {id_of(signer)}


def test_after_a_crash_a_round_never_serves_without_the_keys_it_announced(device, tmp_path, signer, others):
    new, text = others("new")
    update, step, seen = forge.update(tmp_path / "update", key=signer, next_keys=[text]), 0, set()
    while True:
        copy = Device(shutil.copytree(device.folder, tmp_path / f"device{step}"))
        bundle = opened(copy, update)
        died = crashes_at(step, lambda copy=copy, bundle=bundle: copy.commit(bundle))
        seen.add((copy.state.current, id_of(new) in ids(copy)))
        assert current(copy).manifest.round in (1, 2)
        if not died:
            break
        step += 1
    assert seen == {("100", False), ("100", True), ("200", True)}


def test_the_command_names_the_keys_that_came_with_an_update(edge, device_folder, tmp_path, signer, others):
    new, text = others("new")
    folder = forge.update(tmp_path / "update", key=signer, next_keys=[text])
    code, _, err = edge("update", device_folder, folder)
    assert code == 0 and f"note: key {id_of(new)} is kept and enforced from now on" in err.splitlines()
    assert id_of(signer) not in err.splitlines()[-1]
