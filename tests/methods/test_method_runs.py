"""Every method through the same trainer and aggregator: trains, saves, loads, exports."""

import numpy as np
import onnxruntime
import pytest
import torch

from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import to_bytes
from fedclip_export.graphs.heads import head_graph
from fedclip_plugin.methods import METHODS, scores
from fedclip_plugin.methods.create import restore_adapter
from fedclip_plugin.runs import load_adapter

FURTHEST_FROM_ZERO_SHOT = {"fedclip": 0.2, "clip_adapter": 0.1}
"""In accuracy, before any training; every other method begins exactly there."""


@pytest.fixture(scope="module", params=METHODS)
def method(request):
    return request.param


@pytest.fixture(scope="module")
def outcome(own_job, method):
    return own_job(method)


def test_it_trains_and_reports_under_its_own_name(outcome, method):
    losses = [line.train_loss for line in outcome.lines[1:]]
    if METHODS[method].rounds is None:
        assert losses[-1] < losses[0] or method == "zero_shot"
    else:
        assert losses == [None]
    assert f"{METHODS[method].title}, last round {METHODS[method].rounds or 3}" in outcome.out


def test_what_it_saved_answers_on_a_device_as_here_or_says_why_not(outcome, method):
    saved = load_adapter(outcome.folder.adapters / "final")
    assert saved.method == method
    if METHODS[method].on_pixels:
        with pytest.raises(ConversionError, match=method):
            head_graph(saved, {})
        return
    features = np.random.default_rng(0).normal(size=(5, saved.feature_dim)).astype(np.float32)
    with torch.no_grad():
        adapted = restore_adapter(saved)(torch.from_numpy(features))
    biases = None if saved.class_biases is None else torch.from_numpy(saved.class_biases)
    logits = scores(adapted, torch.from_numpy(saved.head_features), saved.answer_scale, biases).numpy()
    session = onnxruntime.InferenceSession(to_bytes(head_graph(saved, {})), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"image_features": features})[0], logits, atol=1e-4)


def test_round_0_is_at_zero_shot_or_near_it(method, outcome):
    for silo in outcome.lines[0].silos.values():
        assert abs(silo.test - silo.zero_shot["test"]) <= FURTHEST_FROM_ZERO_SHOT.get(method, 0.0)
