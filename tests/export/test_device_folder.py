"""A device folder opens at the old round or the new one, whatever happens, and never forgets how far it came."""

import errno
import json
import os
import shutil
import stat
import threading
from pathlib import Path

import forge
import pytest

from fedclip_export.bundle import Device, Trust, device_state, keys, open_bundle
from fedclip_export.errors import BundleError, ExportError


@pytest.fixture
def held(public):
    return keys.load_public_keys([public])


@pytest.fixture
def device(tmp_path, delivered, held):
    """Return a device with round 1, sequence 100, that holds the public key."""
    made = Device(tmp_path / "device")
    made.create(opened(made, delivered, held), held)
    return made


def opened(device, folder, held=()):
    return open_bundle(folder, device.trust("fedclip", held), installed=device.installed(), now=forge.NOW)


def install(device, folder, held=()):
    device.commit(opened(device, folder, held))


def current(device, held=()):
    return device.current(device.trust("fedclip", held), forge.RUNTIME)


def reason(function, *arguments):
    with pytest.raises(BundleError) as caught:
        function(*arguments)
    return caught.value.reason


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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


def test_keys_of_the_first_installation_are_enforced_ever_after(device, tmp_path, signer):
    assert reason(install, device, forge.update(tmp_path / "unsigned")) == "unsigned"
    mallory = forge.attacked(tmp_path / "mallory", "signed with an unknown key", signer)
    assert reason(install, device, mallory) == "signature"
    careless = open_bundle(tmp_path / "unsigned", Trust(), installed=device.installed())
    assert reason(device.commit, careless) == "unsigned"


def test_a_key_that_did_not_sign_the_first_bundle_is_not_stored(tmp_path, delivered):
    other, device = keys.generate(tmp_path / "other"), Device(tmp_path / "device")
    bundle = open_bundle(delivered, Trust())
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
    device.create(open_bundle(delivered, Trust()))
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
    device.create(open_bundle(forge.bundle(tmp_path / "full"), Trust()))
    unsigned = opened(device, forge.update(tmp_path / "unsigned"))
    assert reason(device.commit, unsigned, held) == "unsigned" and device.keys == ()
    device.commit(opened(device, forge.update(tmp_path / "signed", key=signer), held), held)
    assert device.keys == held and device.state.previous is None, "no way back to what the keys do not cover"
    assert reason(device.rollback) == "device-state"


def test_a_key_that_was_copied_to_a_device_without_any_is_enforced_for_good(tmp_path, delivered, signer, public, held):
    device = Device(tmp_path / "device")
    device.create(open_bundle(delivered, Trust()))
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
    unsigned = open_bundle(forge.update(tmp_path / "unsigned"), Trust(), installed=device.installed())
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
    plain.create(open_bundle(delivered, Trust()))
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


def test_another_product_is_refused(device, tmp_path, signer):
    folder = forge.update(tmp_path / "update", key=signer, product="other")
    assert reason(install, device, folder) == "product"


def test_a_device_begins_with_a_full_bundle(tmp_path, device, signer):
    update = open_bundle(forge.update(tmp_path / "update", key=signer), Trust(), installed=device.installed())
    assert reason(Device(tmp_path / "new").create, update) == "incomplete"


def test_a_folder_in_use_is_not_taken(tmp_path, device, delivered):
    bundle = open_bundle(delivered, Trust())
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
    forge.flipped("head.onnx")(device.folder / "rounds" / "100", None)
    assert device.installed().sequence == 200, "damage of the round that was gone back to does not reopen the way"
    forge.flipped("head.onnx")(device.folder / "rounds" / "100", None)
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
    forge.flipped("head.onnx")(device.folder / "rounds" / "100", None)
    assert reason(device.rollback) == "hash"
    assert current(device).manifest.round == 2


DAMAGE = {
    "bit flip in the head": (forge.flipped("head.onnx"), "hash"),
    "truncated head": (forge.cut("head.onnx"), "size"),
    "no head": (lambda folder, key: (folder / "head.onnx").unlink(), "missing-file"),
    "bit flip in the manifest": (forge.flipped("manifest.json"), "signature"),
    "no manifest": (lambda folder, key: (folder / "manifest.json").unlink(), "missing-file"),
    "no signature": (lambda folder, key: (folder / "manifest.sig").unlink(), "unsigned"),
    "another file": (forge.written("x", b""), "unlisted-file"),
    "a link": (forge.linked("head.onnx"), "not-regular"),
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
@pytest.mark.parametrize("damage", [forge.flipped, forge.cut, lambda name: lambda base, key: shutil.rmtree(base)])
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
    assert reason(device.create, open_bundle(delivered, Trust())) == "device-state"


def test_lost_records_are_damage_and_not_a_fresh_start(device, delivered):
    (device.folder / "state.json").unlink()
    assert device.exists
    with pytest.raises(BundleError, match=r"\(state.json is missing or cannot be read\)"):
        device.installed()
    assert reason(device.create, open_bundle(delivered, Trust())) == "device-state"


# ---------------------------------------------------------------- crashes and full disks

STEPS = ("fsync", "replace", "mkdir", "unlink", "rmdir")


def crashes_at(step, act):
    """Run ``act`` in a child process that dies before its ``step``-th change to the disk; tell whether it died."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = step

    def counted(function):
        def wrapper(*arguments, **options):
            nonlocal left
            if left == 0:
                os._exit(9)
            left -= 1
            return function(*arguments, **options)

        return wrapper

    try:
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        act()
    finally:
        os._exit(0)


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
    forge.flipped("encoder.onnx")(new, None)
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
    monkeypatch.setattr(device_state, "fcntl", None)
    install(device, forge.update(tmp_path / "update", key=signer))
    assert json.loads((device.folder / "state.json").read_bytes())["current"] == "200"
