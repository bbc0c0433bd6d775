"""A device folder opens at the old round or the new one, whatever happens, and never forgets how far it came."""

import errno
import json
import os
import shutil
import threading

import pytest

from fedclip_edge.bundle import Trust, open_bundle
from fedclip_edge.device import Device, state
from fedclip_edge.errors import BundleError
from tests.support import forge, tampering
from tests.support.device_steps import crashes_at, current, install, names, opened, reason, tree

DAMAGE = {
    "bit flip in the head": (tampering.flipped("head.onnx"), "hash"),
    "truncated head": (tampering.cut("head.onnx"), "size"),
    "no head": (lambda folder, key: (folder / "head.onnx").unlink(), "missing-file"),
    "bit flip in the manifest": (tampering.flipped("manifest.json"), "signature"),
    "no manifest": (lambda folder, key: (folder / "manifest.json").unlink(), "missing-file"),
    "no signature": (lambda folder, key: (folder / "manifest.sig").unlink(), "unsigned"),
    "another file": (tampering.written("x", b""), "unlisted-file"),
    "a link": (tampering.linked("head.onnx"), "not-regular"),
    "all gone": (lambda folder, key: shutil.rmtree(folder), "missing-file"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_round_falls_back_and_says_so(name, device, tmp_path, signer):
    damage, code = DAMAGE[name]
    install(device, forge.update(tmp_path / "update", key=signer))
    state = device.state
    damage(device.folder / "rounds" / "200", None)
    bundle = current(device)
    assert bundle.manifest.round == 1 and bundle.encoder.exists()
    assert " on this device cannot be used (" in device.fallback and device.fallback.endswith("round 1 answers")
    assert device.state == state and device.installed().sequence == 199
    if code not in ("signature", "unsigned"):
        assert "; give the same update again; " in device.fallback

    install(device, tmp_path / "update")
    assert current(device).manifest.round == 2 and device.fallback is None and device.state == state
    assert reason(install, device, tmp_path / "update") == "replay"
    damage(device.folder / "rounds" / "200", None)
    install(device, forge.update(tmp_path / "next", round=3, sequence=300, key=signer))
    assert current(device).manifest.round == 3 and device.fallback is None
    assert device.state.previous == "100", "the damaged round must not be what the device would fall back to"
    damage(device.folder / "rounds" / "100", None)
    damage(device.folder / "rounds" / "300", None)
    assert reason(current, device) == code


@pytest.mark.parametrize("sequence", [100, 200])
@pytest.mark.parametrize("name", ["encoder.onnx", "preprocess.onnx"])
@pytest.mark.parametrize(
    "damage", [tampering.flipped, tampering.cut, lambda name: lambda base, key: shutil.rmtree(base)]
)
def test_a_damaged_base_is_noticed_and_a_full_bundle_mends_it(name, damage, sequence, device, tmp_path, signer):
    base = current(device).encoder.parent
    damage(name)(base, None)
    with pytest.raises(BundleError, match=r"export a full bundle \(fedclip-export bundle\) and install that"):
        current(device)
    update = opened(device, forge.update(tmp_path / "update", key=signer))
    with pytest.raises(BundleError, match=r"export a full bundle \(fedclip-export bundle\) and install that"):
        device.complete(update)
    install(device, forge.bundle(tmp_path / "full", round=2, sequence=sequence, key=signer))
    assert current(device).encoder.parent == base and device.fallback is None
    assert reason(install, device, tmp_path / "full") == "replay"


def test_a_device_without_a_readable_round_takes_a_full_bundle_alone(device, tmp_path, signer):
    shutil.rmtree(device.folder / "rounds" / "100")
    assert reason(install, device, forge.update(tmp_path / "update", key=signer)) == "incomplete"
    install(device, forge.bundle(tmp_path / "full", key=signer))
    assert current(device).manifest.sequence == 100


def test_a_file_in_the_place_of_a_round_is_replaced(device, tmp_path, signer):
    install(device, forge.update(tmp_path / "update", key=signer))
    shutil.rmtree(device.folder / "rounds" / "200")
    (device.folder / "rounds" / "200").write_bytes(b"")
    install(device, tmp_path / "update")
    assert current(device).manifest.round == 2 and device.state.previous == "100"


def test_damage_never_lets_an_older_round_in(device, tmp_path, signer):
    install(device, forge.update(tmp_path / "update", key=signer))
    shutil.rmtree(device.folder / "rounds" / "200")
    assert reason(install, device, forge.update(tmp_path / "older", sequence=198, key=signer)) == "rollback"
    assert reason(install, device, forge.update(tmp_path / "below", sequence=199, key=signer)) == "replay"


def test_rounds_that_were_exchanged_are_noticed(device, tmp_path, signer):
    install(device, forge.update(tmp_path / "update", key=signer))
    rounds = device.folder / "rounds"
    shutil.rmtree(rounds / "200")
    shutil.copytree(rounds / "100", rounds / "200")
    assert current(device).manifest.sequence == 100 and "200" in device.fallback


STATES = {
    "empty": b"",
    "cut": b'{"current":"100","prev',
    "flipped": b'{"current":"100","keyed":true,"previous":null,"product":"fedclip","schema":1,"sequence":"00"}',
    "a path": b'{"current":"../100","keyed":true,"previous":null,"product":"fedclip","schema":1,"sequence":100}',
    "beyond the highest": b'{"current":"100","keyed":true,"previous":null,"product":"fedclip","schema":1,"sequence":7}',
    "another schema": b'{"current":"100","keyed":true,"previous":null,"product":"fedclip","schema":2,"sequence":100}',
    "another key": b'{"current":"100","keyed":true,"previous":null,"product":"fedclip","schema":1,"sequence":1,"x":1}',
    "no word on keys": b'{"current":"100","previous":null,"product":"fedclip","schema":1,"sequence":100}',
    "half a word on keys": b'{"current":"100","keyed":0,"previous":null,"product":"fedclip","schema":1,"sequence":100}',
    "huge": b" " * 10000,
}


@pytest.mark.parametrize("name", STATES)
def test_damaged_records_say_how_to_repair(name, device, tmp_path, signer, delivered):
    (device.folder / "state.json").write_bytes(STATES[name])
    assert device.exists
    for act in (lambda: device.state, device.installed, device.rollback, lambda: device.trust("fedclip")):
        with pytest.raises(
            BundleError, match=r"\(state.json .*install a full bundle anew, into a new folder"
        ) as caught:
            act()
        assert "manifest" not in str(caught.value)
        assert caught.value.reason == "device-state"
    assert reason(device.create, open_bundle(delivered, Trust(allow_unsigned=True))) == "device-state"


def test_lost_records_are_damage_and_not_a_fresh_start(device, delivered):
    (device.folder / "state.json").unlink()
    assert device.exists
    with pytest.raises(BundleError, match=r"\(state.json is missing or cannot be read\)"):
        device.installed()
    assert reason(device.create, open_bundle(delivered, Trust(allow_unsigned=True))) == "device-state"


# ---------------------------------------------------------------- crashes and full disks


@pytest.mark.parametrize("kind", ["update", "bundle"])
def test_a_crash_at_any_step_leaves_the_old_round_or_the_new_one(kind, device, tmp_path, signer, held):
    install(device, forge.update(tmp_path / "before", round=2, sequence=200, key=signer))
    whole = shutil.copytree(device.folder, tmp_path / "whole")
    options = {"encoder_seed": 4} if kind == "bundle" else {}
    new = getattr(forge, kind)(tmp_path / "new", round=3, sequence=300, key=signer, **options)
    seen, step = [], 0
    while True:
        shutil.rmtree(device.folder)
        shutil.copytree(whole, device.folder)
        bundle = opened(device, new)
        died = crashes_at(step, lambda bundle=bundle: device.commit(bundle))
        now = current(device)
        assert device.fallback is None
        assert now.head == forge.head(now.manifest.round)
        assert device.state.sequence == now.manifest.sequence
        seen.append(now.manifest.round)
        if now.manifest.round == 2:
            install(device, new)
        assert current(device).manifest.round == 3
        later = forge.bundle(tmp_path / f"later{step}", round=4, sequence=400, key=signer)
        install(device, later)
        assert names(device.folder / "rounds") == ["300", "400"], "leftovers are cleared"
        assert not [path for path in tree(device.folder) if ".tmp" in path]
        if not died:
            break
        step += 1
    assert step >= 8 and seen == sorted(seen) and set(seen) == {2, 3}


def test_a_first_installation_that_crashed_may_be_repeated(tmp_path, delivered, held):
    step = 0
    bundle = open_bundle(delivered, Trust(held), now=forge.NOW)
    while True:
        device = Device(tmp_path / f"device{step}")
        died = crashes_at(step, lambda device=device: device.create(bundle, held))
        if device.exists:
            assert device.state.current == "100"
        else:
            assert device.installed() is None
            device.create(opened(device, delivered, held), held)
        assert current(device).key_id == held[0].id
        if not died:
            break
        step += 1
    assert step >= 10


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_leaves_nothing_half_installed(code, device, tmp_path, signer, monkeypatch):
    new = forge.bundle(tmp_path / "new", round=2, sequence=200, key=signer, encoder_seed=4)
    bundle, whole, before = opened(device, new), shutil.copytree(device.folder, tmp_path / "whole"), tree(device.folder)
    told = []
    for step in range(12):
        shutil.rmtree(device.folder)
        shutil.copytree(whole, device.folder)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing_from(step, code))
            try:
                device.commit(bundle)
            except BundleError as error:
                assert error.reason == "device-state"
                told.append(str(error))
        left = set(tree(device.folder)) - set(before)
        assert not [path for path in left if ".tmp" in path]
        assert current(device).head == forge.head(1 if device.state.sequence == 100 else 2)
        assert {path.split("/")[0] for path in left} <= {"base", "rounds"}
        if len(told) <= step:
            break
    assert step >= 10 and device.state.sequence == 200
    assert all(os.strerror(code) in text and "free some space or mend the permissions" in text for text in told)


def failing_from(step, code):
    """Return an ``fsync`` that works ``step`` times and then meets this error for good."""
    real, left = os.fsync, [step]

    def fsync(descriptor):
        if left[0] == 0:
            raise OSError(code, os.strerror(code))
        left[0] -= 1
        real(descriptor)

    return fsync


def test_an_encoder_that_changes_after_it_was_checked_is_not_installed(device, tmp_path, signer):
    new = forge.bundle(tmp_path / "new", round=2, sequence=200, key=signer, encoder_seed=4)
    bundle = opened(device, new)
    tampering.flipped("encoder.onnx")(new, None)
    assert reason(device.commit, bundle) == "hash"
    assert device.state.sequence == 100 and len(names(device.folder / "base")) == 1


def test_of_two_that_install_the_same_update_one_is_told_of_the_replay(device, tmp_path, signer):
    bundle = opened(device, forge.update(tmp_path / "update", key=signer))
    told = []

    def commit():
        try:
            Device(device.folder).commit(bundle)
            told.append("installed")
        except BundleError as error:
            told.append(error.reason)

    threads = [threading.Thread(target=commit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["installed", "replay", "replay", "replay"]
    assert current(device).manifest.round == 2


def test_without_file_locks_a_device_works_all_the_same(device, tmp_path, signer, monkeypatch):
    monkeypatch.setattr(state, "fcntl", None)
    install(device, forge.update(tmp_path / "update", key=signer))
    assert json.loads((device.folder / "state.json").read_bytes())["current"] == "200"
