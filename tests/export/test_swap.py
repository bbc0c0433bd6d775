"""Updates while predictions run: one of two rounds' answers, bit for bit; refused ones, crashes and rollbacks."""

import importlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import forge
import numpy as np
import pytest

from fedclip_export.bundle import Device, keys, opening, rules
from fedclip_export.edge import main
from fedclip_export.errors import BundleError, ExportError, ProviderError
from fedclip_export.runtime import EdgeClassifier, install, serving, slot
from fedclip_export.runtime.sessions import SessionMaker

install_module = importlib.import_module("fedclip_export.runtime.install")  # whose name is the function's
EXPORT = Path(__file__).resolve().parents[2] / "export"
IMAGES = [np.random.default_rng(9).integers(0, 256, (16, 24, 3), dtype=np.uint8) for _ in range(3)]


@pytest.fixture
def device(tmp_path, delivered, public):
    """Return a device folder with round 1, sequence 100, which holds the signer's key."""
    install(tmp_path / "device", delivered, keys=[public], provider="cpu")
    return tmp_path / "device"


@pytest.fixture
def classifier(device):
    with EdgeClassifier(device, provider="cpu") as opened:
        yield opened


@pytest.fixture
def updates(tmp_path, signer):
    """Return a function that makes a signed update of a round and a sequence."""
    return lambda round, sequence: forge.update(tmp_path / f"{round}-{sequence}", round, sequence, key=signer)


def update_for_encoder(folder, seed, round, sequence, key):
    files = {
        "head.onnx": ("head", forge.head(round)),
        "preprocess.onnx": ("preprocess", forge.preprocess()),
        "encoder.onnx": ("encoder", forge.encoder(seed)),
    }
    described = forge.manifest(files, ("encoder", "preprocess"), round, sequence)
    seen = forge.features(forge.images(), seed)
    logits = seen @ forge.head_weights(round).T
    described["golden"] |= {"features": forge.base64_of(seen), "logits": forge.base64_of(logits)}
    return forge.write(folder, {"head.onnx": forge.head(round)}, described, key)


def answers(classifier):
    return np.stack([answer.logits for answer in classifier.predict_batch(IMAGES)])


def expected(round, encoder_seed=0):
    return forge.features(IMAGES, encoder_seed) @ forge.head_weights(round).T


def reopened_round(device):
    with EdgeClassifier(device, provider="cpu") as classifier:
        np.testing.assert_allclose(answers(classifier), expected(classifier.round), atol=1e-4)
        return classifier.round


# ---------------------------------------------------------------- under load


def test_a_hundred_swaps_under_four_threads(classifier, updates):
    offers = [updates(1 + number % 2, 200 + number) for number in range(1, 101)]
    known = {}
    classifier.update(updates(2, 150))
    known[2] = answers(classifier)
    classifier.update(updates(1, 151))
    known[1] = answers(classifier)
    assert not np.array_equal(known[1], known[2])
    stop, seen, faults = threading.Event(), set(), []

    def serve():
        while not stop.is_set():
            batch = classifier.predict_batch(IMAGES)
            sequences = {answer.sequence for answer in batch}
            round = 1 + (batch[0].sequence - 200) % 2 if batch[0].sequence > 200 else 1
            same = np.array_equal(np.stack([answer.logits for answer in batch]), known[round])
            if len(sequences) > 1 or {answer.round for answer in batch} != {round} or not same:
                faults.append(batch)
            seen.update(sequences)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for offer in offers:
        classifier.update(offer)
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults
    assert len(seen) > 20, "predictions ran between the swaps"
    assert classifier.sequence == 300


def test_a_prediction_under_way_ends_on_the_round_it_began_with(classifier, updates):
    before = answers(classifier)

    def images_with_an_update_between():
        yield IMAGES[0]
        classifier.update(updates(2, 200))
        yield from IMAGES[1:]

    batch = classifier.predict_batch(images_with_an_update_between())
    np.testing.assert_array_equal(np.stack([answer.logits for answer in batch]), before)
    assert {answer.sequence for answer in batch} == {100}
    assert classifier.predict(IMAGES[0]).sequence == 200


def test_updates_from_several_threads_come_one_after_the_other(classifier, updates):
    offers = [updates(1 + number % 2, 200 + number) for number in range(8)]
    refused = []

    def offer(folder):
        try:
            classifier.update(folder)
        except BundleError as error:
            refused.append(error.reason)

    threads = [threading.Thread(target=offer, args=(folder,)) for folder in offers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert classifier.sequence == 207
    assert set(refused) <= {"rollback"}


# ---------------------------------------------------------------- what an update changes


def test_an_update_changes_the_head_and_nothing_else(classifier, device, updates):
    encoder = classifier.serving.encoder
    change = classifier.update(updates(2, 200))
    assert (change.old_round, change.old_sequence, change.round, change.sequence) == (1, 100, 2, 200)
    assert not change.encoder_replaced and classifier.serving.encoder is encoder
    assert change.labels_added == change.labels_removed == ()
    np.testing.assert_allclose(answers(classifier), expected(2), atol=1e-4)
    assert reopened_round(device) == 2


def test_a_full_bundle_changes_the_encoder_too(classifier, device, tmp_path, signer):
    change = classifier.update(forge.bundle(tmp_path / "full", 2, 200, key=signer, encoder_seed=5))
    assert change.encoder_replaced
    np.testing.assert_allclose(answers(classifier), expected(2, 5), atol=1e-4)
    classifier.update(update_for_encoder(tmp_path / "next", 5, 3, 300, signer))
    np.testing.assert_allclose(answers(classifier), expected(3, 5), atol=1e-4)


def test_checking_an_update_installs_nothing(classifier, updates):
    offer = updates(2, 200)
    assert classifier.check(offer).bundle.manifest.round == 2
    assert classifier.sequence == 100
    classifier.update(offer)
    assert classifier.sequence == 200


def test_labels_that_come_and_go_are_named(classifier, tmp_path, signer):
    offer = forge.update(tmp_path / "update", key=signer, labels=["dog", "cat", "zebra"])
    change = classifier.update(offer)
    assert (change.labels_added, change.labels_removed) == (("zebra",), ("horse",))
    assert classifier.labels == ("dog", "cat", "zebra")


# ---------------------------------------------------------------- two processes, one device


def test_an_update_by_another_process_is_not_taken_twice(classifier, device, updates):
    with EdgeClassifier(device, provider="cpu") as other:
        folder = updates(2, 200)
        other.update(folder)
        with pytest.raises(BundleError) as caught:
            classifier.update(folder)
        assert caught.value.reason == "replay"
        classifier.update(updates(3, 300))
        np.testing.assert_allclose(answers(classifier), expected(3), atol=1e-4)
        np.testing.assert_allclose(answers(other), expected(2), atol=1e-4)


def test_an_update_meets_the_encoder_that_another_process_installed(classifier, device, tmp_path, signer):
    with EdgeClassifier(device, provider="cpu") as other:
        other.update(forge.bundle(tmp_path / "full", 2, 200, key=signer, encoder_seed=5))
    change = classifier.update(update_for_encoder(tmp_path / "next", 5, 3, 300, signer))
    assert change.encoder_replaced
    np.testing.assert_allclose(answers(classifier), expected(3, 5), atol=1e-4)


def test_reload_serves_what_another_process_installed(classifier, device, updates):
    assert classifier.reload() is None
    with EdgeClassifier(device, provider="cpu") as other:
        other.update(updates(2, 200))
        encoder = classifier.serving.encoder
        change = classifier.reload()
        assert (change.old_sequence, change.sequence) == (100, 200) and classifier.serving.encoder is encoder
        np.testing.assert_allclose(answers(classifier), expected(2), atol=1e-4)
        other.rollback()
    assert classifier.reload().round == 1 and classifier.sequence == 100


def test_rollback_leaves_the_round_that_another_process_installed(classifier, device, updates):
    with EdgeClassifier(device, provider="cpu") as other:
        other.update(updates(2, 200))
    change = classifier.rollback()
    assert (change.old_sequence, change.sequence) == (200, 100) and reopened_round(device) == 1


def test_reload_that_fails_leaves_what_answers(classifier, device, updates):
    folder = updates(2, 200)
    with EdgeClassifier(device, provider="cpu") as other:
        other.update(folder)
    for round in (device / "rounds").iterdir():
        forge.overwrite(round / "head.onnx", b"damaged")
    with pytest.raises(BundleError, match="give the same update again"):
        classifier.reload()
    np.testing.assert_allclose(answers(classifier), expected(1), atol=1e-4)
    assert classifier.update(folder).old_sequence == 100
    assert reopened_round(device) == 2


def test_reload_is_for_a_device_folder(delivered):
    with EdgeClassifier(delivered, provider="cpu") as classifier, pytest.raises(ExportError, match="device folder"):
        classifier.reload()


def test_a_rotated_key_counts_at_once(classifier, device, tmp_path, signer, public):
    keys.generate(tmp_path / "new")
    offer = forge.update(tmp_path / "offer", key=tmp_path / "new")
    with pytest.raises(BundleError, match="none of the keys held"):
        classifier.update(offer)
    shutil.copy(tmp_path / "new.pub", device / "keys")
    assert classifier.update(offer).sequence == 200


def test_a_device_that_has_lost_its_keys_answers_and_takes_nothing(classifier, device, tmp_path, public):
    shutil.rmtree(device / "keys")
    with pytest.raises(BundleError, match=r"put the \.pub back") as caught:
        classifier.update(forge.update(tmp_path / "unsigned"))
    assert caught.value.reason == "device-state" and classifier.predict(IMAGES[0]).sequence == 100
    for given in ([], [public]):
        with pytest.raises(BundleError, match=r"put the \.pub back"):
            EdgeClassifier(device, keys=given, provider="cpu")


def test_rollback_is_refused_when_another_process_updates_meanwhile(classifier, device, updates, monkeypatch):
    classifier.update(updates(2, 200))
    previous = Device.previous

    def and_an_update(self, *arguments):
        bundle = previous(self, *arguments)
        with EdgeClassifier(device, provider="cpu") as other:
            other.update(updates(3, 300))
        return bundle

    with monkeypatch.context() as patch:
        patch.setattr(Device, "previous", and_an_update)
        with pytest.raises(BundleError, match="another process changed"):
            classifier.rollback()
    assert classifier.sequence == 200 and reopened_round(device) == 3
    assert classifier.rollback().sequence == 200 and reopened_round(device) == 2


def test_a_key_that_the_device_does_not_hold_opens_nothing(device, tmp_path):
    keys.generate(tmp_path / "other")
    with pytest.raises(ExportError, match="enforces its own keys"):
        EdgeClassifier(device, keys=[tmp_path / "other.pub"], provider="cpu")


def test_keys_given_to_a_device_without_any_are_kept_by_its_next_update(tmp_path, delivered, public, updates):
    open_to_all = Device(tmp_path / "open")
    install(open_to_all.folder, delivered, provider="cpu")
    with EdgeClassifier(open_to_all.folder, keys=[public], provider="cpu") as classifier:
        assert classifier.key_id and open_to_all.keys == ()
        classifier.update(updates(2, 200))
    assert open_to_all.keys == keys.load_public_keys([public])


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", forge.ATTACKS)
def test_a_refused_update_leaves_the_old_round_serving(classifier, device, tmp_path, signer, monkeypatch, name):
    monkeypatch.setattr(opening, "time", SimpleNamespace(time=lambda: forge.NOW))
    before = answers(classifier)
    with pytest.raises(BundleError) as caught:
        classifier.update(forge.attacked(tmp_path / "attacked", name, signer))
    assert caught.value.reason == forge.ATTACKS[name].reason
    assert len(str(caught.value)) > 20
    np.testing.assert_array_equal(answers(classifier), before)
    assert classifier.sequence == 100 and reopened_round(device) == 1


def test_an_update_that_cannot_be_recorded_does_not_serve(classifier, device, updates, monkeypatch):
    def full_disk(self, bundle, keys):
        raise OSError(28, "No space left on device")

    before = answers(classifier)
    with monkeypatch.context() as patch:
        patch.setattr(Device, "commit", full_disk)
        with pytest.raises(OSError, match="No space left"):
            classifier.update(updates(2, 200))
    np.testing.assert_array_equal(answers(classifier), before)
    assert classifier.sequence == 100 and reopened_round(device) == 1
    classifier.update(updates(2, 201))
    assert reopened_round(device) == 2


def test_a_head_that_does_not_load_does_not_serve(classifier, updates, monkeypatch):
    def broken(self, raw):
        raise BundleError("graph", "onnxruntime cannot load the head")

    with monkeypatch.context() as patch:
        patch.setattr(SessionMaker, "head", broken)
        with pytest.raises(BundleError, match="cannot load"):
            classifier.update(updates(2, 200))
    assert classifier.predict(IMAGES[0]).sequence == 100


@pytest.mark.parametrize("error", [BundleError("graph", "cannot load the encoder"), ProviderError("no memory")])
def test_a_full_bundle_serves_although_the_devices_own_copy_does_not_load(
    classifier, device, tmp_path, signer, monkeypatch, error
):
    made = SessionMaker.encoder

    def encoder(self, path):
        if device in path.parents:
            raise error
        return made(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(SessionMaker, "encoder", encoder)
        change = classifier.update(forge.bundle(tmp_path / "full", 2, 200, key=signer, encoder_seed=5))
    assert (change.sequence, classifier.sequence, Device(device).state.current) == (200, 200, "200")
    np.testing.assert_allclose(answers(classifier), expected(2, 5), atol=1e-4)


def test_an_encoder_that_is_swapped_after_it_was_hashed_is_refused(delivered, monkeypatch):
    made = SessionMaker.encoder

    def encoder(self, path):
        forge.overwrite(path, forge.encoder(5))
        return made(self, path)

    monkeypatch.setattr(SessionMaker, "encoder", encoder)
    with pytest.raises(BundleError, match="was changed while it was opened") as caught:
        EdgeClassifier(delivered, provider="cpu")
    assert caught.value.reason == "hash"


# ---------------------------------------------------------------- rounds that this onnxruntime cannot serve


def fails_its_self_test(patch, rounds):
    def judge(serving):
        if serving.bundle.manifest.round in rounds:
            raise BundleError("self-test", "self-test failed: off; export anew or use another onnxruntime")

    patch.setattr(slot, "self_test", judge)
    patch.setattr(install_module, "self_test", judge)


def does_not_load(patch, rounds):
    made = SessionMaker.head

    def head(self, raw):
        if raw in [forge.head(round) for round in rounds]:
            raise BundleError("graph", "onnxruntime cannot load the head; export anew or use another onnxruntime")
        return made(self, raw)

    patch.setattr(SessionMaker, "head", head)


def is_too_new(patch, rounds):
    checked = rules.check_runtime

    def check(manifest, runtime):
        checked(manifest, "1.2" if manifest.round in rounds else runtime)

    patch.setattr(rules, "check_runtime", check)


@pytest.mark.parametrize("fault", [fails_its_self_test, does_not_load, is_too_new])
def test_a_round_that_cannot_serve_here_falls_back(classifier, device, updates, monkeypatch, fault):
    classifier.update(updates(2, 200))
    fault(monkeypatch, {2})
    with EdgeClassifier(device, provider="cpu") as reopened:
        np.testing.assert_allclose(answers(reopened), expected(1), atol=1e-4)
        assert reopened.warnings[0].startswith("round 2 on this device cannot be used (")
        assert "onnxruntime" in reopened.fallback and reopened.fallback.endswith("until then, round 1 answers")
        reopened.update(updates(3, 300))
        assert reopened.warnings == () and reopened.round == 3
    assert Device(device).state.previous == "100"
    with EdgeClassifier(device, provider="cpu") as reopened:
        assert reopened.rollback().round == 1


@pytest.mark.parametrize("fault", [fails_its_self_test, does_not_load, is_too_new])
def test_rollback_gives_up_a_round_that_cannot_serve_here(classifier, device, updates, monkeypatch, fault):
    classifier.update(updates(2, 200))
    fault(monkeypatch, {2})
    with EdgeClassifier(device, provider="cpu") as reopened:
        assert reopened.rollback().given_up == "round 2" and reopened.fallback == ""
    assert reopened_round(device) == 1 and Device(device).state.current == "100"


@pytest.mark.parametrize("fault", [fails_its_self_test, does_not_load, is_too_new])
def test_a_device_of_which_nothing_can_serve_is_mended_by_a_full_bundle(
    classifier, device, updates, tmp_path, signer, monkeypatch, fault
):
    classifier.update(updates(2, 200))
    fault(monkeypatch, {1, 2})
    with pytest.raises(BundleError, match="round 2 on this device cannot be used"):
        EdgeClassifier(device, provider="cpu")
    full = forge.bundle(tmp_path / "full", 3, 300, key=signer)
    assert main(["update", str(device), str(full), "--provider", "cpu"]) == 0
    assert reopened_round(device) == 3


def test_an_error_of_onnxruntime_in_the_self_test_is_a_refusal(delivered, monkeypatch):
    def encode(self, pixel_values):
        raise RuntimeError("[ONNXRuntimeError] : 6")

    monkeypatch.setattr(serving.Serving, "encode", encode)
    with pytest.raises(BundleError, match="onnxruntime cannot run it") as caught:
        EdgeClassifier(delivered, provider="cpu")
    assert caught.value.reason == "self-test"


# ---------------------------------------------------------------- going back


def test_rollback_serves_the_round_before_and_refuses_the_one_it_left(classifier, device, updates):
    before = answers(classifier)
    folder = updates(2, 200)
    classifier.update(folder)
    change = classifier.rollback()
    assert (change.old_sequence, change.sequence, change.encoder_replaced) == (200, 100, False)
    np.testing.assert_array_equal(answers(classifier), before)
    assert reopened_round(device) == 1
    with pytest.raises(BundleError) as caught:
        classifier.update(folder)
    assert caught.value.reason == "replay"
    with pytest.raises(BundleError) as caught:
        classifier.update(updates(2, 199))
    assert caught.value.reason == "rollback"
    classifier.update(updates(2, 201))
    assert reopened_round(device) == 2


def test_rollback_brings_back_the_encoder_of_that_round(classifier, tmp_path, signer):
    before = answers(classifier)
    classifier.update(forge.bundle(tmp_path / "full", 2, 200, key=signer, encoder_seed=5))
    assert classifier.rollback().encoder_replaced
    np.testing.assert_array_equal(answers(classifier), before)


def test_without_a_round_before_there_is_no_rollback(classifier):
    with pytest.raises(ExportError):
        classifier.rollback()
    assert classifier.predict(IMAGES[0]).sequence == 100


def test_rollback_to_a_damaged_round_changes_nothing(classifier, device, updates):
    classifier.update(updates(2, 200))
    forge.flipped("head.onnx")(device / "rounds" / "100", None)
    with pytest.raises(BundleError):
        classifier.rollback()
    assert classifier.predict(IMAGES[0]).sequence == 200
    assert reopened_round(device) == 2


def test_a_damaged_round_falls_back_to_the_one_before_and_says_so(classifier, device, updates):
    classifier.update(updates(2, 200))
    forge.overwrite(device / "rounds" / "200" / "head.onnx", b"damaged")
    with EdgeClassifier(device, provider="cpu") as reopened:
        assert reopened.round == 1 and "round 2 on this device" in reopened.warnings[0]
        np.testing.assert_allclose(answers(reopened), expected(1), atol=1e-4)
        reopened.update(updates(2, 300))
        assert reopened.warnings == () and reopened.round == 2
    assert reopened_round(device) == 2


def test_a_damaged_round_is_mended_by_the_same_update(classifier, device, updates):
    folder = updates(2, 200)
    classifier.update(folder)
    forge.overwrite(device / "rounds" / "200" / "head.onnx", b"damaged")
    with EdgeClassifier(device, provider="cpu") as reopened:
        assert "give the same update again" in reopened.fallback
        change = reopened.update(folder)
        assert (change.old_sequence, change.sequence) == (100, 200) and reopened.fallback == ""
    assert reopened_round(device) == 2


def test_rollback_gives_up_a_damaged_round_that_the_one_before_answers_for(classifier, device, updates):
    folder = updates(2, 200)
    classifier.update(folder)
    forge.overwrite(device / "rounds" / "200" / "head.onnx", b"damaged")
    with EdgeClassifier(device, provider="cpu") as reopened:
        change = reopened.rollback()
        assert (change.given_up, change.old_sequence, change.sequence) == ("round 2", 100, 100)
        assert reopened.warnings == ()
        with pytest.raises(BundleError, match="left by a rollback; export the round again"):
            reopened.update(folder)
    assert reopened_round(device) == 1


def test_a_device_that_cannot_be_opened_is_mended_by_a_full_bundle(device, delivered, tmp_path, signer):
    base = next((device / "base").iterdir())
    forge.flipped("encoder.onnx")(base, None)
    with pytest.raises(BundleError, match="export a full bundle"):
        EdgeClassifier(device, provider="cpu")
    with pytest.raises(BundleError, match="the encoder on this device cannot be used"):
        install(device, forge.update(tmp_path / "update", key=signer), provider="cpu")
    install(device, delivered, provider="cpu")
    assert reopened_round(device) == 1
    with pytest.raises(BundleError, match="accepted before"):
        install(device, delivered, provider="cpu")


# ---------------------------------------------------------------- crashes


SERVER = """
import itertools, sys
from fedclip_export.runtime import EdgeClassifier
device, offers = sys.argv[1], sys.argv[2:]
with EdgeClassifier(device, provider="cpu") as classifier:
    for offer in offers:
        classifier.update(offer)
        print(classifier.sequence, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 3, 8, 20])
def test_a_device_that_is_killed_opens_at_least_at_what_it_served(device, updates, lines):
    offers = [str(updates(1 + number % 2, 200 + number)) for number in range(60)]
    command = [sys.executable, "-c", SERVER, str(device), *offers]
    with subprocess.Popen(command, cwd=EXPORT, stdout=subprocess.PIPE, text=True) as process:
        served = [int(line) for line in itertools.islice(process.stdout, lines)]
        os.kill(process.pid, signal.SIGKILL)
        served += [int(line) for line in process.stdout if line.strip()]
    assert len(served) >= lines
    with EdgeClassifier(device, provider="cpu") as classifier:
        assert classifier.sequence >= served[-1]
        np.testing.assert_allclose(answers(classifier), expected(classifier.round), atol=1e-4)
        classifier.update(updates(2, 999))
    assert reopened_round(device) == 2
