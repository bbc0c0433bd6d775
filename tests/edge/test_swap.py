"""Updates while predictions run: one of two rounds' answers, bit for bit; refused ones, and crashes."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from fedclip_edge.bundle import opening
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError, ProviderError
from fedclip_edge.runtime import EdgeClassifier
from fedclip_edge.runtime.sessions import SessionMaker
from tests.support import forge, tampering
from tests.support.forged_bundles import ATTACKS, attacked
from tests.support.paths import EDGE
from tests.support.served_rounds import IMAGES, answers, expected, reopened_round, update_for_encoder

# ---------------------------------------------------------------- under load


def test_forty_swaps_under_four_threads(classifier, updates):
    offers = [updates(1 + number % 2, 200 + number) for number in range(1, 41)]
    known = {}
    classifier.update(updates(2, 150))
    known[2] = answers(classifier)
    classifier.update(updates(1, 151))
    known[1] = answers(classifier)
    assert not np.array_equal(known[1], known[2])
    stop, seen, faults = threading.Event(), set(), []

    def serve():
        while not stop.is_set():
            batch = classifier.predict(IMAGES)
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
    assert len(seen) > 8, "predictions ran between the swaps"
    assert classifier.sequence == 240


def test_a_prediction_under_way_ends_on_the_round_it_began_with(classifier, updates):
    before = answers(classifier)

    def images_with_an_update_between():
        yield IMAGES[0]
        classifier.update(updates(2, 200))
        yield from IMAGES[1:]

    batch = classifier.predict(images_with_an_update_between())
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


def test_an_update_changes_the_head_and_nothing_else(classifier, device_folder, updates):
    encoder = classifier.serving.encoder
    change = classifier.update(updates(2, 200))
    assert (change.old_round, change.old_sequence, change.round, change.sequence) == (1, 100, 2, 200)
    assert not change.encoder_replaced and classifier.serving.encoder is encoder
    assert change.labels_added == change.labels_removed == ()
    np.testing.assert_allclose(answers(classifier), expected(2), atol=1e-4)
    assert reopened_round(device_folder) == 2


def test_a_full_bundle_changes_the_encoder_too(classifier, device_folder, tmp_path, signer):
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


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ATTACKS)
def test_a_refused_update_leaves_the_old_round_serving(classifier, device_folder, tmp_path, signer, monkeypatch, name):
    monkeypatch.setattr(opening, "time", SimpleNamespace(time=lambda: forge.NOW))
    before = answers(classifier)
    with pytest.raises(BundleError) as caught:
        classifier.update(attacked(tmp_path / "attacked", name, signer))
    assert caught.value.reason == ATTACKS[name].reason
    assert len(str(caught.value)) > 20
    np.testing.assert_array_equal(answers(classifier), before)
    assert classifier.sequence == 100 and reopened_round(device_folder) == 1


def test_an_update_that_cannot_be_recorded_does_not_serve(classifier, device_folder, updates, monkeypatch):
    def full_disk(self, bundle, keys):
        raise OSError(28, "No space left on device")

    before = answers(classifier)
    with monkeypatch.context() as patch:
        patch.setattr(Device, "commit", full_disk)
        with pytest.raises(OSError, match="No space left"):
            classifier.update(updates(2, 200))
    np.testing.assert_array_equal(answers(classifier), before)
    assert classifier.sequence == 100 and reopened_round(device_folder) == 1
    classifier.update(updates(2, 201))
    assert reopened_round(device_folder) == 2


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
    classifier, device_folder, tmp_path, signer, monkeypatch, error
):
    made = SessionMaker.encoder

    def encoder(self, path):
        if device_folder in path.parents:
            raise error
        return made(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(SessionMaker, "encoder", encoder)
        change = classifier.update(forge.bundle(tmp_path / "full", 2, 200, key=signer, encoder_seed=5))
    assert (change.sequence, classifier.sequence, Device(device_folder).state.current) == (200, 200, "200")
    np.testing.assert_allclose(answers(classifier), expected(2, 5), atol=1e-4)


def test_an_encoder_that_is_swapped_after_it_was_hashed_is_refused(delivered, monkeypatch):
    made = SessionMaker.encoder

    def encoder(self, path):
        tampering.overwrite(path, forge.encoder(5))
        return made(self, path)

    monkeypatch.setattr(SessionMaker, "encoder", encoder)
    with pytest.raises(BundleError, match="was changed while it was opened") as caught:
        EdgeClassifier(delivered, allow_unsigned=True, provider="cpu")
    assert caught.value.reason == "hash"


# ---------------------------------------------------------------- crashes


SERVER = """
import itertools, sys
from fedclip_edge.runtime import EdgeClassifier
device, offers = sys.argv[1], sys.argv[2:]
with EdgeClassifier(device, provider="cpu") as classifier:
    for offer in offers:
        classifier.update(offer)
        print(classifier.sequence, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 3, 8, 20])
def test_a_device_that_is_killed_opens_at_least_at_what_it_served(device_folder, updates, lines):
    offers = [str(updates(1 + number % 2, 200 + number)) for number in range(60)]
    command = [sys.executable, "-c", SERVER, str(device_folder), *offers]
    with subprocess.Popen(command, cwd=EDGE, stdout=subprocess.PIPE, text=True) as process:
        served = [int(line) for line in itertools.islice(process.stdout, lines)]
        os.kill(process.pid, signal.SIGKILL)
        served += [int(line) for line in process.stdout if line.strip()]
    assert len(served) >= lines
    with EdgeClassifier(device_folder, provider="cpu") as classifier:
        assert classifier.sequence >= served[-1]
        np.testing.assert_allclose(answers(classifier), expected(classifier.round), atol=1e-4)
        classifier.update(updates(2, 999))
    assert reopened_round(device_folder) == 2
