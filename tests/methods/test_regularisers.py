"""Terms beside a method's loss: their values and gradients by hand, padding, and what they hold an adapter to."""

import pytest
import torch
from torch.nn.functional import normalize

from fedclip_plugin.methods import ZeroShot, create_adapter
from fedclip_plugin.methods.attention_gate import AttentionGate
from fedclip_plugin.methods.linear_probe import LinearProbe
from fedclip_plugin.methods.losses import PADDING
from fedclip_plugin.methods.regularisers import Regularisers, distillation, text_distance
from tests.support.workshop import frozen

WIDTH, CLASSES = 6, 3
LABELS = torch.tensor([0, 1, 2, 0, 1])


def images(rows=5):
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def moved_probe():
    built_on = frozen(WIDTH)
    probe = LinearProbe(built_on, dtype=torch.float64)
    with torch.no_grad():
        probe.rows.add_(torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(5)).double())
    return probe, built_on.text.to(images())


def test_the_divergence_is_that_of_the_probabilities():
    rng = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(5, CLASSES, generator=rng, dtype=torch.float64) for _ in range(2))
    known, own = teacher.softmax(-1), student.softmax(-1)
    wanted = sum(known[i, c] * torch.log(known[i, c] / own[i, c]) for i in range(5) for c in range(CLASSES)) / 5
    torch.testing.assert_close(distillation(teacher, student, LABELS), wanted)
    assert float(distillation(teacher, teacher, LABELS)) == 0


def test_its_gradient_is_the_difference_of_the_probabilities():
    rng = torch.Generator().manual_seed(1)
    teacher, student = (torch.randn(5, CLASSES, generator=rng, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    distillation(teacher, student, LABELS).backward()
    torch.testing.assert_close(student.grad, (student.softmax(-1) - teacher.softmax(-1)).detach() / 5)


def test_the_distance_of_class_features_is_one_minus_their_cosine():
    text = normalize(images(CLASSES), dim=-1)
    classes = torch.stack([text[0], -text[1], text[2].roll(1)])
    wanted = (0 + 2 + 1 - (text[2].roll(1) * text[2]).sum()) / 3
    torch.testing.assert_close(text_distance(classes, text), wanted)


def test_the_terms_are_added_with_their_weights():
    probe, text = moved_probe()
    plain = probe.loss(images(), LABELS, text)
    teacher, student = ZeroShot().logits(images(), text), probe.logits(images(), text)
    wanted = plain + 0.7 * distillation(teacher, student, LABELS)
    wanted = wanted + 3 * text_distance(probe.class_features(text), text.features)
    torch.testing.assert_close(Regularisers(0.7, 3.0).loss(probe, images(), LABELS, text), wanted)
    assert torch.equal(Regularisers().loss(probe, images(), LABELS, text), plain)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 2.0), (0.3, 8.0)])
def test_the_gradient_is_that_of_finite_differences(weights):
    probe, text = moved_probe()
    terms = Regularisers(*weights)
    terms.loss(probe, images(), LABELS, text).backward()
    direction = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    losses, step = [], 1e-6
    for sign in (1, -1):
        with torch.no_grad():
            probe.rows.add_(sign * step * direction)
            losses.append(float(terms.loss(probe, images(), LABELS, text)))
            probe.rows.sub_(sign * step * direction)
    slope = (losses[0] - losses[1]) / (2 * step)
    assert slope == pytest.approx(float((probe.rows.grad * direction).sum()), rel=1e-6)


@pytest.mark.parametrize("method", [AttentionGate, LinearProbe])
def test_rows_that_fill_a_batch_up_change_nothing(method):
    built_on = frozen(WIDTH)
    adapter, terms = method(built_on, torch.Generator().manual_seed(7), torch.float64), Regularisers(1.0, 1.0)
    text, longer = built_on.text.to(images()), torch.cat([images(), torch.zeros(3, WIDTH, dtype=torch.float64)])
    filled = torch.cat([LABELS, torch.full((3,), PADDING)])
    gradients = []
    for inputs, labels, padded in ((images(), LABELS, False), (longer, filled, True)):
        loss = terms.loss(adapter, inputs, labels, text, padded)
        gradients.append(torch.autograd.grad(loss, list(adapter.parameters())))
    for short, long in zip(*gradients, strict=True):
        torch.testing.assert_close(long, short, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("terms", [Regularisers(10.0), Regularisers(0.0, 300.0)], ids=["distillation", "pull"])
def test_a_heavy_term_keeps_the_adapter_near_zero_shot(terms):
    distances, inputs = [], images().float()
    for own in (Regularisers(), terms):
        built_on = frozen(WIDTH)
        probe = create_adapter("linear_probe", built_on, seed=0)
        optimizer = torch.optim.SGD(probe.parameters(), lr=1e-3)
        for _ in range(60):
            optimizer.zero_grad()
            own.loss(probe, inputs, LABELS, built_on.text).backward()
            optimizer.step()
        with torch.no_grad():
            distance = terms.loss(probe, inputs, LABELS, built_on.text) - probe.loss(inputs, LABELS, built_on.text)
        distances.append(float(distance))
    assert 0 < distances[1] < 0.5 * distances[0]
