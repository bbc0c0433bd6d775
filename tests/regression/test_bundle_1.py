"""A bundle and an update of schema 1, as version 0.1.0 signed them, are accepted and answer as they did then."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedclip_edge.runtime import EdgeClassifier, install

HERE = Path(__file__).parent / "bundle_1"
PICTURE = np.arange(16 * 24 * 3, dtype=np.uint8).reshape(16, 24, 3)


def test_the_bundle_verifies_and_its_logits_are_the_same():
    expected = json.loads((HERE / "expected.json").read_text())["logits"]
    with EdgeClassifier(HERE / "bundle", keys=[HERE / "signer.pub"], provider="cpu") as classifier:
        assert classifier.logits([PICTURE]) == pytest.approx(np.array(expected), abs=1e-5)
        assert (classifier.round, classifier.sequence) == (1, 100)


def test_the_update_goes_on_top_of_it(tmp_path):
    shutil.copytree(HERE / "bundle", tmp_path / "bundle")
    install(tmp_path / "device", tmp_path / "bundle", keys=[HERE / "signer.pub"])
    with EdgeClassifier(tmp_path / "device", provider="cpu") as classifier:
        change = classifier.update(HERE / "update")
        assert (change.old_round, change.round, classifier.sequence) == (1, 2, 200)
