"""Every method of the table: builds, learns, travels, is saved and restored, and answers the same on a device."""

import numpy as np
import onnxruntime
import pytest
import torch

from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import to_bytes
from fedclip_export.graphs.heads import head_graph
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.methods import METHODS, create_adapter, load_parameters, parameters_of
from fedclip_plugin.methods.create import restore_adapter
from fedclip_plugin.runs import load_adapter, save_adapter
from tests.support.workshop import frozen_clip_tiny

CLASSES = ("dog", "house", "polar_bear", "car")
TEMPLATE = "a picture of a {}"
IMAGES, STEPS = 24, 8
LABELS = torch.arange(IMAGES) % len(CLASSES)
NOTHING_TRAINED = {"zero_shot"}


@pytest.fixture(scope="module")
def frozen():
    return frozen_clip_tiny(CLASSES, TEMPLATE)


@pytest.fixture(scope="module", params=list(METHODS))
def method(request):
    return request.param


@pytest.fixture(scope="module")
def inputs(method):
    generator = torch.Generator().manual_seed(1)
    if METHODS[method].on_pixels:
        return torch.randint(0, 256, (IMAGES, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return torch.randn(IMAGES, 128, generator=generator)


@pytest.fixture(scope="module")
def trained(method, inputs, frozen):
    """An adapter after a few steps, and the loss before each of them."""
    adapter = create_adapter(method, frozen, seed=0)
    parameters = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-3) if parameters else None
    losses = []
    for _ in range(STEPS):
        loss = adapter.loss(inputs, LABELS, frozen.text)
        losses.append(float(loss))
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return adapter, losses


@pytest.fixture(scope="module")
def saved(method, trained, frozen):
    here = fingerprint(locate_backbone(BUILT_IN))
    task = Task(method, BUILT_IN, here, "fp32", CLASSES, TEMPLATE, frozen.text, "d")
    return task.saved(STEPS, trained[0], {})


@torch.no_grad()
def logits(adapter, inputs, frozen):
    return adapter.logits(inputs, frozen.text)


def test_its_loss_falls_where_it_has_parameters(method, trained):
    adapter, losses = trained
    assert (not parameters_of(adapter)) == (method in NOTHING_TRAINED)
    assert np.isfinite(losses).all()
    assert (losses[-1] < losses[0]) == (method not in NOTHING_TRAINED)


def test_what_it_compares_is_of_unit_length(method, trained, inputs, frozen):
    adapter = trained[0]
    with torch.no_grad():
        image, classes = adapter(inputs), adapter.class_features(frozen.text)
    assert (image.shape, classes.shape) == ((IMAGES, 128), (len(CLASSES), 128))
    solved = METHODS[method].rounds is not None  # the lengths of its rows are what it finds
    for features in (image,) if solved else (image, classes):
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(len(features)))


def test_its_parameters_are_all_that_another_silo_needs(method, trained, inputs, frozen):
    other = create_adapter(method, frozen, seed=1)
    load_parameters(other, parameters_of(trained[0]))
    assert torch.equal(logits(other, inputs, frozen), logits(trained[0], inputs, frozen))


@pytest.mark.parametrize("name", [name for name, spec in METHODS.items() if not spec.on_pixels])
def test_on_features_it_holds_nothing_but_its_parameters(name, frozen):
    adapter = create_adapter(name, frozen, seed=0)
    assert set(adapter.state_dict()) == set(parameters_of(adapter))


def test_it_is_saved_and_restored(tmp_path, saved, trained, inputs, frozen):
    save_adapter(tmp_path / "adapter", saved)
    loaded = load_adapter(tmp_path / "adapter")
    restored = restore_adapter(loaded)
    assert np.array_equal(loaded.head_features, saved.head_features)
    assert np.array_equal(loaded.text_features, frozen.text.features)
    torch.testing.assert_close(logits(restored, inputs, frozen), logits(trained[0], inputs, frozen), atol=1e-5, rtol=0)
    assert all(torch.equal(tensor, parameters_of(trained[0])[name]) for name, tensor in parameters_of(restored).items())


def test_it_answers_on_a_device_as_here_or_says_why_not(method, saved, trained, inputs, frozen):
    if METHODS[method].on_pixels:
        with pytest.raises(ConversionError, match="full bundle"):
            head_graph(saved, {})
        return
    session = onnxruntime.InferenceSession(to_bytes(head_graph(saved, {})), providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {"image_features": inputs.numpy()})[0]
    np.testing.assert_allclose(found, logits(trained[0], inputs, frozen).numpy(), atol=1e-4)


@pytest.mark.parametrize("classes", [2, 345])
def test_its_parameters_are_counted_before_it_is_built(method, classes):
    names = tuple(f"class {number}" for number in range(classes))
    built = parameters_of(create_adapter(method, frozen_clip_tiny(names, TEMPLATE), seed=0))
    size = read_clip_config(locate_backbone(BUILT_IN))
    counted, own = METHODS[method].parameters(size, classes), sum(tensor.numel() for tensor in built.values())
    assert counted >= own if method in ("prompt", "prompt_generator") else counted == own
