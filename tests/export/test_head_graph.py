"""The head graph against the adapter's own module, in torch."""

import dataclasses
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from fedclip_export.convert.finalize import to_bytes
from fedclip_export.convert.heads import HEADS, head_graph
from fedclip_export.errors import ConversionError
from fedclip_plugin.adapters import ADAPTERS, create_adapter, scores
from fedclip_plugin.adapters.registry import restore_adapter
from fedclip_plugin.runs import SavedAdapter, save_adapter

WIDTH = 32


def saved_adapter(method="fedclip", width=WIDTH, classes=7, scale=100.0):
    rng = np.random.default_rng(width)
    text = rng.normal(size=(classes, width)).astype(np.float32)
    tensors = {name: tensor.numpy() for name, tensor in create_adapter(method, width, seed=3).state_dict().items()}
    return SavedAdapter(
        method=method,
        feature_dim=width,
        backbone="clip-tiny",
        fingerprint="0" * 64,
        precision="fp32",
        logit_scale=scale,
        classes=tuple(f"class {index}" for index in range(classes)),
        prompt_template="a photo of a {}",
        round=5,
        recipe_digest="0" * 64,
        text_features=text / np.linalg.norm(text, axis=1, keepdims=True),
        tensors=tensors,
    )


def features(batch, width=WIDTH):
    return np.random.default_rng(batch).normal(size=(batch, width)).astype(np.float32) * 3


def run(model, batch):
    session = onnxruntime.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"image_features": batch})


@torch.no_grad()
def reference(saved, batch):
    adapted = restore_adapter(saved)(torch.from_numpy(batch))
    logits = scores(adapted, torch.from_numpy(saved.text_features), saved.logit_scale)
    return logits.numpy(), torch.softmax(logits, dim=-1).numpy()


def test_every_method_has_an_exporter():
    assert set(HEADS) == set(ADAPTERS)


@pytest.mark.parametrize("method", ADAPTERS)
@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_logits_and_probabilities_are_the_adapters(method, batch, scale):
    saved = saved_adapter(method, scale=scale)
    logits, probabilities = run(head_graph(saved, {}), features(batch))
    wanted_logits, wanted_probabilities = reference(saved, features(batch))
    np.testing.assert_allclose(logits / scale, wanted_logits / scale, atol=1e-6)
    np.testing.assert_allclose(logits, wanted_logits, atol=5e-5)
    np.testing.assert_allclose(probabilities, wanted_probabilities, atol=1e-5)


@pytest.mark.parametrize("method", ADAPTERS)
@pytest.mark.parametrize("store", ["fp32", "fp16"])
def test_a_feature_of_zeros_gives_finite_answers(method, store):
    logits, probabilities = run(head_graph(saved_adapter(method), {}, store), np.zeros((2, WIDTH), np.float32))
    np.testing.assert_array_equal(logits, 0)
    np.testing.assert_allclose(probabilities, 1 / 7, rtol=1e-6)


@pytest.mark.parametrize("method", ADAPTERS)
def test_stored_as_halves_it_is_half_as_large_and_hardly_differs(method):
    saved = saved_adapter(method, width=512)
    whole, half = (head_graph(saved, {}, store) for store in ("fp32", "fp16"))
    assert len(to_bytes(half)) < 0.51 * len(to_bytes(whole))
    batch = features(64, 512)
    np.testing.assert_allclose(run(half, batch)[0], run(whole, batch)[0], atol=0.02)


@pytest.mark.parametrize("classes", [1, 2, 200])
def test_any_number_of_classes(classes):
    saved = saved_adapter(classes=classes)
    np.testing.assert_allclose(run(head_graph(saved, {}), features(3))[0], reference(saved, features(3))[0], atol=5e-5)


def test_bytes_depend_on_the_adapter_alone():
    saved = saved_adapter()
    backwards = dataclasses.replace(saved, tensors=dict(reversed(saved.tensors.items())))
    assert to_bytes(head_graph(saved, {"a": "1", "b": "2"})) == to_bytes(head_graph(backwards, {"b": "2", "a": "1"}))


def test_the_round_is_the_models_version():
    assert head_graph(saved_adapter(), {}).model_version == 5


def test_an_unknown_method_is_refused():
    with pytest.raises(ConversionError, match="'prompt'"):
        head_graph(dataclasses.replace(saved_adapter(), method="prompt"), {})


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
        head_graph(changed(saved_adapter(), **tensors), {})


def test_weights_beyond_halves_are_refused_as_halves():
    saved = changed(saved_adapter(), **{"hidden.weight": np.full((WIDTH, WIDTH), 1e5, np.float32)})
    assert head_graph(saved, {}).graph.name == "head"
    with pytest.raises(ConversionError, match="store it as fp32"):
        head_graph(saved, {}, "fp16")


def test_text_features_of_another_width_are_refused():
    saved = dataclasses.replace(saved_adapter(), text_features=np.zeros((7, 8), np.float32))
    with pytest.raises(ConversionError, match="text features"):
        head_graph(saved, {})


def test_heads_are_built_without_torch(tmp_path):
    save_adapter(tmp_path / "adapter", saved_adapter())
    program = (
        "import sys; from pathlib import Path\n"
        "from fedclip_plugin.runs import load_adapter\n"
        "from fedclip_export.convert.finalize import to_bytes\n"
        "from fedclip_export.convert.heads import head_graph\n"
        "print(len(to_bytes(head_graph(load_adapter(Path(sys.argv[1])), {}))))\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "adapter")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 2 * WIDTH * WIDTH * 4
