"""Every method through the same trainer and aggregator under the real mpirun: trains, saves, loads, exports."""

import numpy as np
import onnxruntime
import pytest
import torch

from fedclip_export.convert.finalize import to_bytes
from fedclip_export.convert.heads import head_graph
from fedclip_plugin.adapters import scores
from fedclip_plugin.adapters.registry import restore_adapter
from fedclip_plugin.recipe import METHODS
from fedclip_plugin.runs import load_adapter


@pytest.fixture(scope="module", params=sorted(set(METHODS) - {"fedclip"}))
def method(request):
    """Every method but FedCLIP, which all the other tests run."""
    return request.param


@pytest.fixture(scope="module")
def outcome(workshop, method):
    return workshop.run(workshop.recipe(method, fedclip_args__method=method))


def test_it_trains_and_reports_under_its_own_name(outcome, method):
    assert outcome.code == 0, outcome.err
    losses = [line["train_loss"] for line in outcome.lines[1:]]
    assert losses[-1] < losses[0]
    assert f"{METHODS[method].title}, last round 3" in outcome.out


def test_what_it_saved_answers_on_a_device_as_here(outcome, method):
    saved = load_adapter(outcome.folder.adapters / "final")
    features = np.random.default_rng(0).normal(size=(5, saved.feature_dim)).astype(np.float32)
    with torch.no_grad():
        adapted = restore_adapter(saved)(torch.from_numpy(features))
    logits = scores(adapted, torch.from_numpy(saved.text_features), saved.logit_scale).numpy()
    session = onnxruntime.InferenceSession(to_bytes(head_graph(saved, {})), providers=["CPUExecutionProvider"])
    assert saved.method == method
    np.testing.assert_allclose(session.run(["logits"], {"image_features": features})[0], logits, atol=1e-4)


def test_round_0_is_at_zero_shot_or_near_it(method, outcome):
    furthest = {"sigmoid_gate": 0.0, "clip_adapter": 0.1}[method]
    for silo in outcome.lines[0]["silos"].values():
        assert abs(silo["test"] - silo["zero_shot"]["test"]) <= furthest
