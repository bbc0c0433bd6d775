"""The head graph against the adapter's own module, in torch."""

import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch

from fedclip_edge.calibration import Calibration
from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import to_bytes
from fedclip_export.graphs.heads import head_graph
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.methods import METHODS, Adapter, adapter_class, scores
from fedclip_plugin.methods.create import restore_adapter
from tests.support.random_adapters import random_adapter

WIDTH = 32
HEADS = [name for name, method in METHODS.items() if not method.on_pixels]
OWN_ENCODER = [name for name, method in METHODS.items() if method.on_pixels]


def features(batch, width=WIDTH):
    return np.random.default_rng(batch).normal(size=(batch, width)).astype(np.float32) * 3


def run(model, batch):
    session = onnxruntime.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"image_features": batch})


@torch.no_grad()
def reference(saved, batch):
    adapted = restore_adapter(saved)(torch.from_numpy(batch))
    biases = None if saved.class_biases is None else torch.from_numpy(saved.class_biases)
    logits = scores(adapted, torch.from_numpy(saved.head_features), saved.logit_scale, biases)
    return logits.numpy(), torch.softmax(logits, dim=-1).numpy()


def test_every_method_has_a_head_or_an_encoder_of_its_own():
    for name, method in METHODS.items():
        assert (adapter_class(name).head is Adapter.head) == method.on_pixels


@pytest.mark.parametrize("method", HEADS)
@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_logits_and_probabilities_are_the_adapters(method, batch, scale):
    saved = random_adapter(method, scale=scale)
    logits, probabilities = run(head_graph(saved, {}), features(batch))
    wanted_logits, wanted_probabilities = reference(saved, features(batch))
    np.testing.assert_allclose(logits / saved.logit_scale, wanted_logits / saved.logit_scale, atol=1e-6)
    np.testing.assert_allclose(logits, wanted_logits, atol=5e-5)
    np.testing.assert_allclose(probabilities, wanted_probabilities, atol=1e-5)


@pytest.mark.parametrize("method", HEADS)
def test_the_temperature_is_in_the_graph(method):
    plain = random_adapter(method, scale=14.3)
    saved = dataclasses.replace(plain, calibration=Calibration(2.5, 0.4, 0.05, 336))
    batch = features(3)
    logits, probabilities = run(head_graph(saved, {}), batch)
    wanted = run(head_graph(plain, {}), batch)[0] / 2.5
    np.testing.assert_allclose(logits, wanted, atol=5e-6)
    np.testing.assert_allclose(logits, Classifier(saved, device="cpu").logits_of(torch.from_numpy(batch)), atol=5e-6)
    np.testing.assert_allclose(probabilities, torch.softmax(torch.from_numpy(wanted), -1), atol=1e-6)


@pytest.mark.parametrize("method", HEADS)
@pytest.mark.parametrize("store", ["fp32", "fp16"])
def test_a_feature_of_zeros_gives_finite_answers(method, store):
    saved, nothing = random_adapter(method), np.zeros((2, WIDTH), np.float32)
    logits, probabilities = run(head_graph(saved, {}, store), nothing)
    if saved.class_biases is None:
        np.testing.assert_array_equal(logits, 0)
    wanted_logits, wanted_probabilities = reference(saved, nothing)
    np.testing.assert_allclose(logits, wanted_logits, rtol=1e-6)
    np.testing.assert_allclose(probabilities, wanted_probabilities, rtol=1e-5)


@pytest.mark.parametrize("method", HEADS)
def test_stored_as_halves_it_is_half_as_large_and_hardly_differs(method):
    saved = random_adapter(method, width=512, classes=100)
    whole, half = (head_graph(saved, {}, store) for store in ("fp32", "fp16"))
    assert len(to_bytes(half)) < 0.51 * len(to_bytes(whole))
    batch = features(64, 512)
    np.testing.assert_allclose(run(half, batch)[0], run(whole, batch)[0], atol=0.02)


@pytest.mark.parametrize("classes", [1, 2, 200])
def test_any_number_of_classes(classes):
    saved = random_adapter(classes=classes)
    np.testing.assert_allclose(run(head_graph(saved, {}), features(3))[0], reference(saved, features(3))[0], atol=5e-5)


def test_bytes_depend_on_the_adapter_alone():
    saved = random_adapter()
    backwards = dataclasses.replace(saved, tensors=dict(reversed(saved.tensors.items())))
    assert to_bytes(head_graph(saved, {"a": "1", "b": "2"})) == to_bytes(head_graph(backwards, {"b": "2", "a": "1"}))


def test_the_round_is_the_models_version():
    assert head_graph(random_adapter(), {}).model_version == 5


def test_an_unknown_method_is_refused():
    with pytest.raises(ConversionError, match="'sorcery'"):
        head_graph(dataclasses.replace(random_adapter(), method="sorcery"), {})


@pytest.mark.parametrize("method", OWN_ENCODER)
def test_a_method_that_changes_the_encoder_has_no_head(method):
    with pytest.raises(ConversionError, match=f"'{method}': it changes the image encoder .* full bundle"):
        head_graph(dataclasses.replace(random_adapter(), method=method), {})


@pytest.mark.parametrize(
    "method", [name for name in HEADS if adapter_class(name).trains_classes and METHODS[name].sums is None]
)
def test_trained_class_features_take_the_place_of_the_text_features(method):
    saved = random_adapter(method, scale=1.0)
    along_the_rows = saved.class_features
    logits, _ = run(head_graph(saved, {}), along_the_rows)
    np.testing.assert_allclose(np.diag(logits), 1.0, atol=1e-5)
    with pytest.raises(ConversionError, match="does not use"):
        head_graph(dataclasses.replace(saved, class_features=None), {})


def changed(saved, **tensors):
    kept = {name: array for name, array in (dict(saved.tensors) | tensors).items() if array is not None}
    return dataclasses.replace(saved, tensors=kept)


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"gate.bias": None}, "gate.bias' is missing"),
        ({"gate.bias": np.zeros(3, np.float32)}, "of shape"),
        ({"extra": np.zeros(3, np.float32)}, "extra"),
        ({"gate.bias": np.full(WIDTH, np.nan, np.float32)}, "not finite"),
    ],
)
def test_tensors_that_are_not_the_methods_are_refused(tensors, text):
    with pytest.raises(ConversionError, match=text):
        head_graph(changed(random_adapter(), **tensors), {})


def test_weights_beyond_halves_are_refused_as_halves():
    saved = changed(random_adapter(), **{"hidden.weight": np.full((WIDTH, WIDTH), 1e5, np.float32)})
    assert head_graph(saved, {}).graph.name == "head"
    with pytest.raises(ConversionError, match="store it as fp32"):
        head_graph(saved, {}, "fp16")


@pytest.mark.parametrize(("method", "field"), [("fedclip", "text_features"), ("linear_probe", "class_features")])
def test_class_features_of_another_width_are_refused(method, field):
    saved = dataclasses.replace(random_adapter(method), **{field: np.zeros((7, 8), np.float32)})
    with pytest.raises(ConversionError, match="class features"):
        head_graph(saved, {})
