"""Methods that are solved: each against its formula in plain numpy, and at the borders of what can come."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fedclip_plugin.features import FeatureSet
from fedclip_plugin.methods import METHODS, adapter_class, create_adapter, load_parameters
from fedclip_plugin.methods.closed_form.feature_sums import Statistics
from tests.support.workshop import frozen

SOLVED = [name for name, method in METHODS.items() if method.rounds is not None]
WIDTH, CLASSES = 12, 4


def images(count=60, classes=CLASSES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, WIDTH, generator=generator)
    return FeatureSet(centres[labels] + torch.randn(count, WIDTH, generator=generator), labels)


def solve(name, data, penalty=0.5, classes=CLASSES):
    method = adapter_class(name)
    return method.solve(Statistics.of(data, classes, method.needs_gram), penalty)


def in_numpy(data):
    return normalize(data.features.double(), dim=-1).numpy(), np.eye(CLASSES)[data.labels.numpy()]


def test_there_are_three_of_them():
    assert SOLVED == ["ridge", "ncm", "gda"]


def test_ridge_is_the_centralised_solution():
    data = images()
    f, y = in_numpy(data)
    wanted = np.linalg.solve(f.T @ f + 0.5 * np.eye(WIDTH), f.T @ y).T
    np.testing.assert_allclose(solve("ridge", data).weights, wanted, atol=1e-10)


def test_ncm_labels_by_the_nearest_class_mean():
    data = images()
    f, y = in_numpy(data)
    means = y.T @ f
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    found = solve("ncm", data)
    np.testing.assert_array_equal((f @ found.weights.numpy().T).argmax(1), (f @ means.T).argmax(1))
    assert float(found.biases.abs().sum()) == 0


def test_gda_is_the_difference_of_log_densities():
    data = images()
    f, y = in_numpy(data)
    n, means = y.sum(0), (y.T @ f) / y.sum(0)[:, None]
    residuals = f - means[data.labels]
    within = residuals.T @ residuals / (len(f) - CLASSES)
    precision = WIDTH * np.linalg.inv((len(f) - 1) * within + np.trace(within) * np.eye(WIDTH))
    assert n.sum() == len(f)

    def log_density(mean):
        return -0.5 * np.einsum("nd,de,ne->n", f - mean, precision, f - mean)

    wanted = np.stack([log_density(mean) - log_density(f.mean(0)) for mean in means], axis=1)
    found = solve("gda", data)
    np.testing.assert_allclose(f @ found.weights.numpy().T + found.biases.numpy(), wanted, atol=1e-8)


@pytest.mark.parametrize("name", SOLVED)
def test_classes_without_images_keep_their_zero_shot_row(name):
    data = images(classes=CLASSES - 1)
    built_on, method = frozen(WIDTH, CLASSES), adapter_class(name)
    adapter = create_adapter(name, built_on, 0)
    load_parameters(adapter, method.mixed(built_on.text, solve(name, data), 10.0, 1.0))
    assert torch.equal(adapter.rows[-1], built_on.text.features[-1])
    assert not torch.allclose(adapter.rows[:-1], built_on.text.features[:-1])
    logits, zero_shot = (
        each.logits(data.features, built_on.text) for each in (adapter, create_adapter("zero_shot", built_on, 0))
    )
    torch.testing.assert_close(logits[:, -1], zero_shot[:, -1])


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize(
    "data",
    [
        images(0),
        images(1),
        images(CLASSES),
        images(2, classes=1),
        FeatureSet(torch.ones(6, WIDTH), torch.arange(6) % 2),
        FeatureSet(torch.zeros(3, WIDTH), torch.arange(3)),
    ],
    ids=["none", "one", "one a class", "one class", "copies", "zeros"],
)
def test_few_images_never_give_nan(name, data):
    found = solve(name, data, penalty=0.01)
    assert torch.isfinite(found.weights).all()
    assert torch.isfinite(found.biases).all()


@pytest.mark.parametrize("name", SOLVED)
def test_one_class_alone_is_solved(name):
    assert solve(name, images(5, classes=1), classes=1).weights.shape == (1, WIDTH)


@pytest.mark.parametrize("name", SOLVED)
def test_round_0_is_zero_shot_clip(name):
    built_on, data = frozen(WIDTH, CLASSES), images()
    own, zero_shot = (create_adapter(each, built_on, 0) for each in (name, "zero_shot"))
    assert torch.equal(own.logits(data.features, built_on.text), zero_shot.logits(data.features, built_on.text))


@pytest.mark.parametrize("name", SOLVED)
def test_the_adapter_adds_the_mix_of_the_solution_to_clips_logits(name):
    built_on, data = frozen(WIDTH, CLASSES), images()
    found, adapter = solve(name, data), create_adapter(name, built_on, 0)
    load_parameters(adapter, adapter.mixed(built_on.text, found, 3.0, 0.5))
    unit = normalize(data.features, dim=-1).double()
    clip = built_on.text.logit_scale * unit @ built_on.text.features.double().T
    wanted = 0.5 * (clip + 3.0 * (unit @ found.weights.T + found.biases))
    torch.testing.assert_close(adapter.logits(data.features, built_on.text).double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("classes", [2, 100])
def test_the_table_counts_what_is_sent(name, classes):
    from fedclip_plugin.backbone import BUILT_IN, locate_backbone
    from fedclip_plugin.backbone.configs.clip_config import read_clip_config

    size = read_clip_config(locate_backbone(BUILT_IN))
    sent = Statistics.none(classes, size.dim, adapter_class(name).needs_gram).to_wire()
    numbers = sum(tensor.numel() for name, tensor in sent.items() if not name.endswith(".scale"))
    assert METHODS[name].sums(size, classes) == numbers
