"""The way back: by request, and by itself from rounds that are damaged or that this onnxruntime cannot serve."""

import numpy as np
import pytest

from fedclip_edge.bundle import acceptance
from fedclip_edge.cli import main
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.runtime import EdgeClassifier, install, self_test, sessions
from fedclip_edge.runtime.sessions import SessionMaker
from tests.support import forge, tampering
from tests.support.served_rounds import IMAGES, answers, expected, reopened_round

# ---------------------------------------------------------------- rounds that this onnxruntime cannot serve


def fails_its_self_test(patch, rounds):
    def judge(serving):
        if serving.bundle.manifest.round in rounds:
            raise BundleError("self-test", "self-test failed: off; export anew or use another onnxruntime")

    patch.setattr(self_test, "self_test", judge)


def does_not_load(patch, rounds):
    made = SessionMaker.head

    def head(self, raw):
        if raw in [forge.head(round) for round in rounds]:
            raise BundleError("graph", "onnxruntime cannot load the head; export anew or use another onnxruntime")
        return made(self, raw)

    patch.setattr(SessionMaker, "head", head)


def is_too_new(patch, rounds):
    checked = acceptance.check_runtime

    def check(manifest, runtime):
        checked(manifest, "1.2" if manifest.round in rounds else runtime)

    patch.setattr(acceptance, "check_runtime", check)


@pytest.mark.parametrize("fault", [fails_its_self_test, does_not_load, is_too_new])
def test_a_round_that_cannot_serve_here_falls_back(classifier, device_folder, updates, monkeypatch, fault):
    classifier.update(updates(2, 200))
    fault(monkeypatch, {2})
    with EdgeClassifier(device_folder, provider="cpu") as reopened:
        np.testing.assert_allclose(answers(reopened), expected(1), atol=1e-4)
        assert reopened.warnings[0].startswith("round 2 on this device cannot be used (")
        assert "onnxruntime" in reopened.fallback and reopened.fallback.endswith("until then, round 1 answers")
        reopened.update(updates(3, 300))
        assert reopened.warnings == () and reopened.round == 3
    assert Device(device_folder).state.previous == "100"
    with EdgeClassifier(device_folder, provider="cpu") as reopened:
        assert reopened.rollback().round == 1


@pytest.mark.parametrize("fault", [fails_its_self_test, does_not_load, is_too_new])
def test_rollback_gives_up_a_round_that_cannot_serve_here(classifier, device_folder, updates, monkeypatch, fault):
    classifier.update(updates(2, 200))
    fault(monkeypatch, {2})
    with EdgeClassifier(device_folder, provider="cpu") as reopened:
        assert reopened.rollback().given_up == "round 2" and reopened.fallback == ""
    assert reopened_round(device_folder) == 1 and Device(device_folder).state.current == "100"


@pytest.mark.parametrize("fault", [fails_its_self_test, does_not_load, is_too_new])
def test_a_device_of_which_nothing_can_serve_is_mended_by_a_full_bundle(
    classifier, device_folder, updates, tmp_path, signer, monkeypatch, fault
):
    classifier.update(updates(2, 200))
    fault(monkeypatch, {1, 2})
    with pytest.raises(BundleError, match="round 2 on this device cannot be used"):
        EdgeClassifier(device_folder, provider="cpu")
    full = forge.bundle(tmp_path / "full", 3, 300, key=signer)
    assert main(["update", str(device_folder), str(full), "--provider", "cpu"]) == 0
    assert reopened_round(device_folder) == 3


def test_an_error_of_onnxruntime_in_the_self_test_is_a_refusal(delivered, monkeypatch):
    def encode(self, pixel_values):
        raise RuntimeError("[ONNXRuntimeError] : 6")

    monkeypatch.setattr(sessions.Serving, "encode", encode)
    with pytest.raises(BundleError, match="onnxruntime cannot run it") as caught:
        EdgeClassifier(delivered, allow_unsigned=True, provider="cpu")
    assert caught.value.reason == "self-test"


# ---------------------------------------------------------------- going back


def test_rollback_serves_the_round_before_and_refuses_the_one_it_left(classifier, device_folder, updates):
    before = answers(classifier)
    folder = updates(2, 200)
    classifier.update(folder)
    change = classifier.rollback()
    assert (change.old_sequence, change.sequence, change.encoder_replaced) == (200, 100, False)
    np.testing.assert_array_equal(answers(classifier), before)
    assert reopened_round(device_folder) == 1
    with pytest.raises(BundleError) as caught:
        classifier.update(folder)
    assert caught.value.reason == "replay"
    with pytest.raises(BundleError) as caught:
        classifier.update(updates(2, 199))
    assert caught.value.reason == "rollback"
    classifier.update(updates(2, 201))
    assert reopened_round(device_folder) == 2


def test_rollback_brings_back_the_encoder_of_that_round(classifier, tmp_path, signer):
    before = answers(classifier)
    classifier.update(forge.bundle(tmp_path / "full", 2, 200, key=signer, encoder_seed=5))
    assert classifier.rollback().encoder_replaced
    np.testing.assert_array_equal(answers(classifier), before)


def test_without_a_round_before_there_is_no_rollback(classifier):
    with pytest.raises(ExportError):
        classifier.rollback()
    assert classifier.predict(IMAGES[0]).sequence == 100


def test_rollback_to_a_damaged_round_changes_nothing(classifier, device_folder, updates):
    classifier.update(updates(2, 200))
    tampering.flipped("head.onnx")(device_folder / "rounds" / "100", None)
    with pytest.raises(BundleError):
        classifier.rollback()
    assert classifier.predict(IMAGES[0]).sequence == 200
    assert reopened_round(device_folder) == 2


def test_a_damaged_round_falls_back_to_the_one_before_and_says_so(classifier, device_folder, updates):
    classifier.update(updates(2, 200))
    tampering.overwrite(device_folder / "rounds" / "200" / "head.onnx", b"damaged")
    with EdgeClassifier(device_folder, provider="cpu") as reopened:
        assert reopened.round == 1 and "round 2 on this device" in reopened.warnings[0]
        np.testing.assert_allclose(answers(reopened), expected(1), atol=1e-4)
        reopened.update(updates(2, 300))
        assert reopened.warnings == () and reopened.round == 2
    assert reopened_round(device_folder) == 2


def test_a_damaged_round_is_mended_by_the_same_update(classifier, device_folder, updates):
    folder = updates(2, 200)
    classifier.update(folder)
    tampering.overwrite(device_folder / "rounds" / "200" / "head.onnx", b"damaged")
    with EdgeClassifier(device_folder, provider="cpu") as reopened:
        assert "give the same update again" in reopened.fallback
        change = reopened.update(folder)
        assert (change.old_sequence, change.sequence) == (100, 200) and reopened.fallback == ""
    assert reopened_round(device_folder) == 2


def test_rollback_gives_up_a_damaged_round_that_the_one_before_answers_for(classifier, device_folder, updates):
    folder = updates(2, 200)
    classifier.update(folder)
    tampering.overwrite(device_folder / "rounds" / "200" / "head.onnx", b"damaged")
    with EdgeClassifier(device_folder, provider="cpu") as reopened:
        change = reopened.rollback()
        assert (change.given_up, change.old_sequence, change.sequence) == ("round 2", 100, 100)
        assert reopened.warnings == ()
        with pytest.raises(BundleError, match="left by a rollback; export the round again"):
            reopened.update(folder)
    assert reopened_round(device_folder) == 1


def test_a_device_that_cannot_be_opened_is_mended_by_a_full_bundle(device_folder, delivered, tmp_path, signer):
    base = next((device_folder / "base").iterdir())
    tampering.flipped("encoder.onnx")(base, None)
    with pytest.raises(BundleError, match="export a full bundle"):
        EdgeClassifier(device_folder, provider="cpu")
    with pytest.raises(BundleError, match="the encoder on this device cannot be used"):
        install(device_folder, forge.update(tmp_path / "update", key=signer), provider="cpu")
    install(device_folder, delivered, provider="cpu")
    assert reopened_round(device_folder) == 1
    with pytest.raises(BundleError, match="accepted before"):
        install(device_folder, delivered, provider="cpu")
