"""Two processes on one device: what one installs the other takes up, and keys count at once."""

import shutil

import numpy as np
import pytest

from fedclip_edge.bundle import keys
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.runtime import EdgeClassifier, install
from tests.support import forge, tampering
from tests.support.served_rounds import IMAGES, answers, expected, reopened_round, update_for_encoder


def test_an_update_by_another_process_is_not_taken_twice(classifier, device_folder, updates):
    with EdgeClassifier(device_folder, provider="cpu") as other:
        folder = updates(2, 200)
        other.update(folder)
        with pytest.raises(BundleError) as caught:
            classifier.update(folder)
        assert caught.value.reason == "replay"
        classifier.update(updates(3, 300))
        np.testing.assert_allclose(answers(classifier), expected(3), atol=1e-4)
        np.testing.assert_allclose(answers(other), expected(2), atol=1e-4)


def test_an_update_meets_the_encoder_that_another_process_installed(classifier, device_folder, tmp_path, signer):
    with EdgeClassifier(device_folder, provider="cpu") as other:
        other.update(forge.bundle(tmp_path / "full", 2, 200, key=signer, encoder_seed=5))
    change = classifier.update(update_for_encoder(tmp_path / "next", 5, 3, 300, signer))
    assert change.encoder_replaced
    np.testing.assert_allclose(answers(classifier), expected(3, 5), atol=1e-4)


def test_reload_serves_what_another_process_installed(classifier, device_folder, updates):
    assert classifier.reload() is None
    with EdgeClassifier(device_folder, provider="cpu") as other:
        other.update(updates(2, 200))
        encoder = classifier.serving.encoder
        change = classifier.reload()
        assert (change.old_sequence, change.sequence) == (100, 200) and classifier.serving.encoder is encoder
        np.testing.assert_allclose(answers(classifier), expected(2), atol=1e-4)
        other.rollback()
    assert classifier.reload().round == 1 and classifier.sequence == 100


def test_rollback_leaves_the_round_that_another_process_installed(classifier, device_folder, updates):
    with EdgeClassifier(device_folder, provider="cpu") as other:
        other.update(updates(2, 200))
    change = classifier.rollback()
    assert (change.old_sequence, change.sequence) == (200, 100) and reopened_round(device_folder) == 1


def test_reload_that_fails_leaves_what_answers(classifier, device_folder, updates):
    folder = updates(2, 200)
    with EdgeClassifier(device_folder, provider="cpu") as other:
        other.update(folder)
    for round in (device_folder / "rounds").iterdir():
        tampering.overwrite(round / "head.onnx", b"damaged")
    with pytest.raises(BundleError, match="give the same update again"):
        classifier.reload()
    np.testing.assert_allclose(answers(classifier), expected(1), atol=1e-4)
    assert classifier.update(folder).old_sequence == 100
    assert reopened_round(device_folder) == 2


def test_reload_is_for_a_device_folder(delivered):
    with (
        EdgeClassifier(delivered, allow_unsigned=True) as classifier,
        pytest.raises(ExportError, match="device folder"),
    ):
        classifier.reload()


def test_a_rotated_key_counts_at_once(classifier, device_folder, tmp_path, signer, public):
    keys.generate(tmp_path / "new")
    offer = forge.update(tmp_path / "offer", key=tmp_path / "new")
    with pytest.raises(BundleError, match="none of the keys held"):
        classifier.update(offer)
    shutil.copy(tmp_path / "new.pub", device_folder / "keys")
    assert classifier.update(offer).sequence == 200


def test_a_device_that_has_lost_its_keys_answers_and_takes_nothing(classifier, device_folder, tmp_path, public):
    shutil.rmtree(device_folder / "keys")
    with pytest.raises(BundleError, match=r"put the \.pub back") as caught:
        classifier.update(forge.update(tmp_path / "unsigned"))
    assert caught.value.reason == "device-state" and classifier.predict(IMAGES[0]).sequence == 100
    for given in ([], [public]):
        with pytest.raises(BundleError, match=r"put the \.pub back"):
            EdgeClassifier(device_folder, keys=given, provider="cpu")


def test_rollback_is_refused_when_another_process_updates_meanwhile(classifier, device_folder, updates, monkeypatch):
    classifier.update(updates(2, 200))
    previous = Device.previous

    def and_an_update(self, *arguments):
        bundle = previous(self, *arguments)
        with EdgeClassifier(device_folder, provider="cpu") as other:
            other.update(updates(3, 300))
        return bundle

    with monkeypatch.context() as patch:
        patch.setattr(Device, "previous", and_an_update)
        with pytest.raises(BundleError, match="another process changed"):
            classifier.rollback()
    assert classifier.sequence == 200 and reopened_round(device_folder) == 3
    assert classifier.rollback().sequence == 200 and reopened_round(device_folder) == 2


def test_a_key_that_the_device_does_not_hold_opens_nothing(device_folder, tmp_path):
    keys.generate(tmp_path / "other")
    with pytest.raises(ExportError, match="enforces its own keys"):
        EdgeClassifier(device_folder, keys=[tmp_path / "other.pub"], provider="cpu")


def test_keys_given_to_a_device_without_any_are_kept_by_its_next_update(tmp_path, delivered, public, updates):
    open_to_all = Device(tmp_path / "open")
    install(open_to_all.folder, delivered, allow_unsigned=True, provider="cpu")
    with EdgeClassifier(open_to_all.folder, keys=[public], provider="cpu") as classifier:
        assert classifier.key_id and open_to_all.keys == ()
        classifier.update(updates(2, 200))
    assert open_to_all.keys == keys.load_public_keys([public])
