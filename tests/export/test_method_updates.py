"""Devices go from one method to another by updates of the head alone."""

import dataclasses

import numpy as np
import torch

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


def release(saved, place, against, sequence):
    save_adapter(place / f"adapter_{sequence}", saved)
    out = place / f"update_{sequence}"
    make_update(place / f"adapter_{sequence}", against, out, "fp32", Release(forge.PRODUCT, sequence))
    return out


@torch.no_grad()
def trained_answer(saved):
    features = torch.from_numpy(forge.features(forge.images()))
    return restore_adapter(saved).logits(features, frozen_of(saved).text).numpy()


def test_a_device_answers_by_whichever_method_came_last(tmp_path):
    full = forge.bundle(tmp_path / "bundle")
    heads = [name for name, entry in METHODS.items() if not entry.on_pixels]
    install(tmp_path / "device", full, provider="cpu")
    with EdgeClassifier(tmp_path / "device", provider="cpu") as classifier:
        for sequence, method in enumerate((*heads, *reversed(heads)), start=200):
            saved = adapter(method, round=sequence)
            classifier.update(release(saved, tmp_path, full, sequence))
            logits = classifier.logits(forge.images())
            np.testing.assert_allclose(logits, trained_answer(saved), atol=1e-5)
            assert (classifier.round, classifier.sequence) == (sequence, sequence)
