"""What a classifier in service answers and what it should, and an update for an encoder other than the first."""

import numpy as np

from fedclip_edge.runtime import EdgeClassifier
from tests.support import forge

IMAGES = [np.random.default_rng(9).integers(0, 256, (16, 24, 3), dtype=np.uint8) for _ in range(3)]


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
    return np.stack([answer.logits for answer in classifier.predict(IMAGES)])


def expected(round, encoder_seed=0):
    return forge.features(IMAGES, encoder_seed) @ forge.head_weights(round).T


def reopened_round(device_folder):
    with EdgeClassifier(device_folder, provider="cpu") as classifier:
        np.testing.assert_allclose(answers(classifier), expected(classifier.round), atol=1e-4)
        return classifier.round
