"""LoRA in the text tower and generated prompts: zero-shot at first, their equations, their gradients, other classes."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear

from fedclip_edge.calibration import Calibration
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.backbone.towers import text_features
from fedclip_plugin.errors import AdapterFileError, DataError, RecipeError
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.methods import METHODS, create_adapter, parameters_of
from fedclip_plugin.methods.create import on_classes, restore_adapter
from tests.support.workshop import clip_tiny, frozen_clip_tiny

CLASSES, OTHERS = ("dog", "polar_bear", "grand piano"), ("cat", "dog")
TEMPLATE = "a picture of a {}"
THROUGH_TEXT = ("text_lora", "prompt_generator")
FOLDER = locate_backbone(BUILT_IN)


def built(method, dtype=torch.float32, classes=CLASSES, moved=True):
    """An adapter, moved away from zero-shot unless told otherwise, and the text features it is built on."""
    built_on = frozen_clip_tiny(classes, TEMPLATE)
    adapter, generator = create_adapter(method, built_on, 0, dtype), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters() if moved else ():
            if parameter.requires_grad:
                parameter.add_(0.1 * parameter.abs().mean() * torch.randn(parameter.shape, generator=generator))
            if name == "gain" or name.endswith(".b.weight"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return adapter, built_on.text


def saved(method, adapter, text):
    here = fingerprint(FOLDER)
    return Task(method, BUILT_IN, here, "fp32", CLASSES, TEMPLATE, text, "d").saved(3, adapter, {"target": 0.5})


@pytest.mark.parametrize("method", THROUGH_TEXT)
def test_it_starts_as_zero_shot(method):
    adapter, text = built(method, moved=False)
    torch.testing.assert_close(adapter.class_features(text).detach(), text.features, atol=1e-6, rtol=0)
    moved, _ = built(method)
    assert (moved.class_features(text) - text.features).abs().max() > 1e-3


def test_lora_is_the_tower_with_the_products_added_to_its_weights():
    adapter, text = built("text_lora")
    clip = clip_tiny()
    with torch.no_grad():
        for layer, own in zip(clip.model.text_model.encoder.layers, adapter.layers, strict=True):
            for name, matrices in own.items():
                getattr(layer.self_attn, name).weight += matrices["b"].weight @ matrices["a"].weight
        wanted = text_features(
            clip.model, *clip.tokenize([TEMPLATE.format(name.replace("_", " ")) for name in CLASSES])
        )
    torch.testing.assert_close(adapter.class_features(text).detach(), wanted, atol=2e-6, rtol=0)


def test_the_generator_computes_its_equations():
    adapter, text = built("prompt_generator", torch.float64)
    own = {name: value.detach() for name, value in adapter.named_parameters()}
    vectors, width = own["queries"].shape
    classes = layer_norm(text.features.double(), (128,), own["class_norm.weight"], own["class_norm.bias"])
    queries = layer_norm(own["queries"], (width,), own["query_norm.weight"], own["query_norm.bias"])
    query, key, value = (
        linear(given, own[f"{name}.weight"], own[f"{name}.bias"])
        for name, given in (("query", queries), ("key", classes), ("value", classes))
    )
    seen, part = torch.empty_like(queries), width // 4
    for head in range(4):
        at = slice(head * part, (head + 1) * part)
        weights = (query[:, at] @ key[:, at].T / math.sqrt(part)).softmax(-1)
        seen[:, at] = weights @ value[:, at]
    hidden = linear(seen, own["out.weight"], own["out.bias"])
    inner = linear(
        layer_norm(hidden, (width,), own["norm.weight"], own["norm.bias"]), own["wide.weight"], own["wide.bias"]
    )
    gated = inner[:, : 4 * width] * gelu(inner[:, 4 * width :])
    wanted = own["gain"] * (hidden + linear(gated, own["narrow.weight"], own["narrow.bias"]))
    torch.testing.assert_close(adapter.words(text.features).detach(), wanted)
    assert vectors == 4


@pytest.mark.parametrize("method", THROUGH_TEXT)
def test_the_gradient_is_that_of_finite_differences(method):
    adapter, text = built(method, torch.float64)
    images, labels = torch.randn(9, 128, generator=torch.Generator().manual_seed(1)).double(), torch.arange(9) % 3
    text = text.to(images)
    adapter.loss(images, labels, text).backward()
    parameters, generator = list(adapter.parameters()), torch.Generator().manual_seed(2)
    directions = [torch.randn(own.shape, generator=generator, dtype=torch.float64) for own in parameters]
    step, losses = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for own, direction in zip(parameters, directions, strict=True):
                own.add_(sign * step * direction)
            losses.append(float(adapter.loss(images, labels, text)))
            for own, direction in zip(parameters, directions, strict=True):
                own.sub_(sign * step * direction)
    slope = sum(float((own.grad * direction).sum()) for own, direction in zip(parameters, directions, strict=True))
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


def test_parameters_of_clip_vit_b32(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    size = read_clip_config(tmp_path)
    assert METHODS["text_lora"].parameters(size, 7) == 98_304
    assert METHODS["prompt_generator"].parameters(size, 7) == 4_206_592 + 12 * 512, "of 16 words, not of 4"


def test_generated_words_need_words_in_the_template():
    with pytest.raises(RecipeError, match="prompt_generator changes the words before the class name"):
        create_adapter("prompt_generator", frozen_clip_tiny(("dog", "cat"), "{}"), seed=0)


def test_lora_needs_no_words_in_the_template():
    built_on = frozen_clip_tiny(CLASSES, "{} in a picture")
    adapter = create_adapter("text_lora", built_on, seed=0)
    features = adapter.class_features(built_on.text).detach()
    torch.testing.assert_close(features, built_on.text.features, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_other_classes_go_through_what_was_trained(method):
    adapter, text = built(method)
    own = saved(method, adapter, text)
    same, other = on_classes(own, CLASSES), on_classes(own, OTHERS)
    np.testing.assert_allclose(same.head_features, own.head_features, atol=1e-6)
    assert (other.classes, other.metrics) == (OTHERS, {})
    np.testing.assert_allclose(other.text_features, frozen_clip_tiny(OTHERS, TEMPLATE).text.features, atol=1e-6)
    assert other.head_features.shape == (2, 128)
    if METHODS[method].sums is None:
        assert np.array_equal(other.head_features, other.text_features) == (not adapter.trains_classes)
    if method in (
        "prompt",
        "full",
        "linear_probe",
        "text_lora",
    ):  # to others a class is the same whatever stands beside
        np.testing.assert_allclose(other.head_features[1], own.head_features[0], atol=1e-5)
    if not METHODS[method].on_pixels:
        assert parameters_of(restore_adapter(other)).keys() == parameters_of(adapter).keys()


def test_a_probe_meets_a_class_that_it_does_not_know_as_zero_shot_clip_does():
    adapter, text = built("linear_probe", moved=False)
    with torch.no_grad():
        adapter.rows.mul_(-1)
    other = on_classes(saved("linear_probe", adapter, text), OTHERS)
    np.testing.assert_allclose(other.head_features[0], other.text_features[0], atol=1e-6)
    np.testing.assert_allclose(other.head_features[1], -other.text_features[1], atol=1e-6)


def test_a_solved_class_keeps_its_row_and_bias_and_others_are_zero_shot():
    adapter, text = built("gda", moved=False)
    with torch.no_grad():
        adapter.rows.mul_(-2)
        adapter.biases.add_(0.5)
    own = dataclasses.replace(saved("gda", adapter, text), calibration=Calibration(2.0, 0.3, 0.05, 40))
    other = on_classes(own, OTHERS)
    np.testing.assert_allclose(other.head_features[0], other.text_features[0], atol=1e-6)
    np.testing.assert_allclose(other.head_features[1], -2 * other.text_features[1], atol=1e-6)
    assert other.class_biases.tolist() == [0.0, 0.5]
    assert (other.logit_scale, other.calibration) == (own.logit_scale, None)


@pytest.mark.parametrize("method", ["prompt", "prompt_generator"])
def test_a_single_other_class_keeps_the_words_that_were_trained(method):
    adapter, text = built(method)
    other = on_classes(saved(method, adapter, text), ("dog",))
    assert other.head_features.shape == (1, 128)
    assert other.tensors.keys() == parameters_of(adapter).keys()


def test_classes_that_cannot_be_told_apart_are_refused():
    own = saved("text_lora", *built("text_lora"))
    with pytest.raises(AdapterFileError, match="one or more names, each once"):
        on_classes(own, ("dog", "dog"))
    with pytest.raises(AdapterFileError, match="one or more names"):
        on_classes(own, ())
    with pytest.raises(DataError, match="Dog"):
        on_classes(own, ("dog", "Dog"))
    broken = dataclasses.replace(own, tensors={})
    with pytest.raises(AdapterFileError, match="does not fit method 'text_lora'"):
        on_classes(broken, OTHERS)
