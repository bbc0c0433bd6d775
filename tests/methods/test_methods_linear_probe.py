"""The linear probe: zero-shot at first, the softmax gradient by hand, and rows that count at unit length."""

from dataclasses import replace

import torch

from fedclip_plugin.methods import ZeroShot
from fedclip_plugin.methods.linear_probe import LinearProbe
from tests.support.workshop import frozen

LABELS = torch.tensor([0, 1, 2, 0, 1])


def probe_and_images(width=6):
    built_on = frozen(width)
    images = torch.randn(5, width, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return LinearProbe(built_on, dtype=torch.float64), images, built_on.text.to(images)


def test_it_starts_as_zero_shot_and_leaves_the_frozen_features_alone():
    probe, images, text = probe_and_images()
    before = text.features.clone()
    torch.testing.assert_close(probe.logits(images, text), ZeroShot().logits(images, text))
    with torch.no_grad():
        probe.rows.add_(1.0)
    assert torch.equal(text.features, before)
    assert sum(parameter.numel() for parameter in probe.parameters()) == 3 * 6


def test_zero_shot_logits_are_scaled_cosines():
    _, images, text = probe_and_images()
    cosines = torch.nn.functional.cosine_similarity(images[:, None], text.features[None], dim=-1)
    torch.testing.assert_close(ZeroShot().logits(images, text), 20.0 * cosines)
    assert not list(ZeroShot().parameters())


def test_the_loss_is_the_negative_log_probability_of_the_label():
    _, images, text = probe_and_images()
    adapted = images / images.norm(dim=-1, keepdim=True)
    probabilities = (7.0 * adapted @ text.features.T).softmax(-1)
    wanted = -sum(probabilities[i, label].log() for i, label in enumerate(LABELS)) / 5
    torch.testing.assert_close(ZeroShot().loss(images, LABELS, replace(text, logit_scale=7.0)), wanted)


def test_the_gradient_is_that_of_softmax_regression_on_the_sphere():
    probe, images, text = probe_and_images()
    with torch.no_grad():
        probe.rows.mul_(torch.tensor([[0.5], [2.0], [3.0]]))
    probe.loss(images, LABELS, text).backward()
    rows = probe.rows.detach()
    length = rows.norm(dim=-1, keepdim=True)
    unit, adapted = rows / length, images / images.norm(dim=-1, keepdim=True)
    surplus = (20.0 * adapted @ unit.T).softmax(-1) - torch.eye(3, dtype=torch.float64)[LABELS]
    pull = 20.0 * surplus.T @ adapted / 5
    tangent = (pull - (pull * unit).sum(-1, keepdim=True) * unit) / length
    torch.testing.assert_close(probe.rows.grad, tangent)
