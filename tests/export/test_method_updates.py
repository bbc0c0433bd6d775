"""Devices go from one method to another by updates of the head alone."""

import dataclasses

import numpy as np
import pytest
import torch

from fedclip_edge.bundle import keys
from fedclip_edge.errors import ExportError
from fedclip_edge.runtime import EdgeClassifier, install
from fedclip_export.export_update import make_update
from fedclip_export.release import Release
from fedclip_plugin.methods import METHODS
from fedclip_plugin.methods.create import frozen_of, restore_adapter
from fedclip_plugin.runs import save_adapter
from tests.support import forge
from tests.support.random_adapters import random_adapter


def adapter(method, round):
    """Return an adapter for devices that have a forged bundle."""
    made = random_adapter(method, forge.WIDTH, len(forge.LABELS), scale=10.0, round=round)
    return dataclasses.replace(made, fingerprint=forge.sha256(b"backbone"), classes=forge.LABELS)


def release(saved, place, against, sequence, **settings):
    save_adapter(place / f"adapter_{sequence}", saved)
    out = place / f"update_{sequence}"
    make_update(place / f"adapter_{sequence}", against, out, "fp32", Release(forge.PRODUCT, sequence, **settings))
    return out


def test_a_release_announces_the_next_key_and_only_when_it_is_signed(tmp_path):
    first, second = (keys.generate(tmp_path / name) for name in ("first", "second"))
    full, announced = forge.bundle(tmp_path / "bundle", key=tmp_path / "first"), (tmp_path / "second.pub",)
    saved = adapter("fedclip", round=2)
    with pytest.raises(ExportError, match="only from a signed release"):
        release(saved, tmp_path, full, 200, next_keys=announced)
    with pytest.raises(ExportError, match="at most 8"):
        release(saved, tmp_path, full, 201, next_keys=9 * announced, private_key=tmp_path / "first")
    one = release(saved, tmp_path, full, 202, next_keys=announced, private_key=tmp_path / "first")
    other = release(saved, tmp_path, full, 203, private_key=tmp_path / "second")
    install(tmp_path / "device", full, keys=[tmp_path / "first.pub"], provider="cpu")
    with EdgeClassifier(tmp_path / "device", provider="cpu") as classifier:
        classifier.update(one)
        assert classifier.key_id == first.id
        classifier.update(other)
        assert classifier.key_id == second.id


@torch.no_grad()
def trained_answer(saved):
    features = torch.from_numpy(forge.features(forge.images()))
    return restore_adapter(saved).logits(features, frozen_of(saved).text).numpy()


def test_a_device_answers_by_whichever_method_came_last(tmp_path):
    full = forge.bundle(tmp_path / "bundle")
    heads = [name for name, entry in METHODS.items() if not entry.on_pixels]
    install(tmp_path / "device", full, allow_unsigned=True, provider="cpu")
    with EdgeClassifier(tmp_path / "device", allow_unsigned=True, provider="cpu") as classifier:
        for sequence, method in enumerate((*heads, *reversed(heads)), start=200):
            saved = adapter(method, round=sequence)
            classifier.update(release(saved, tmp_path, full, sequence))
            logits = classifier.logits(forge.images())
            np.testing.assert_allclose(logits, trained_answer(saved), atol=1e-5)
            assert (classifier.round, classifier.sequence) == (sequence, sequence)
