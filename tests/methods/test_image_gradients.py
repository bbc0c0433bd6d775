"""Clipped sums in closed form against gradients of images taken one by one."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from fedclip_plugin.errors import MethodError
from fedclip_plugin.features import TextFeatures
from fedclip_plugin.methods import METHODS, Adapter, Method, create_adapter
from fedclip_plugin.methods.image_gradients import clipped_sum, require_image_gradients
from fedclip_plugin.methods.losses import scores
from fedclip_plugin.methods.regularisers import distillation
from tests.support.workshop import frozen

WIDTH, IMAGES = 16, 12
ABLE = [own.name for own in METHODS.data.values() if isinstance(own, Method) and own.image_gradients]


def case(method):
    generator = torch.Generator().manual_seed(2)
    base = frozen(WIDTH)
    adapter = create_adapter(method, base, 0, dtype=torch.float64)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    text = TextFeatures(base.text.features.double(), 20.0)
    features = torch.randn(IMAGES, WIDTH, generator=generator, dtype=torch.float64)
    return adapter, features, torch.arange(IMAGES) % 3, text


def one_by_one(adapter, features, labels, text, clip, weight):
    sums, norms = [torch.zeros_like(own) for own in adapter.parameters()], []
    for feature, label in zip(features, labels, strict=True):
        logits = adapter.logits(feature[None], text)
        loss = cross_entropy(logits, label[None])
        teacher = scores(normalize(feature[None], dim=-1), text.features, text.logit_scale)
        loss = loss + weight * distillation(teacher, logits, label[None])
        own = torch.autograd.grad(loss, list(adapter.parameters()))
        norms.append(torch.cat([part.flatten() for part in own]).norm())
        for total, part in zip(sums, own, strict=True):
            total += part * min(1.0, clip / float(norms[-1]))
    return sums, torch.stack(norms)


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("method", ABLE)
def test_a_clipped_sum_is_that_of_single_images(method, weight):
    adapter, features, labels, text = case(method)
    _, norms = one_by_one(adapter, features, labels, text, 1.0, weight)
    clip = float(norms.median())
    expected, norms = one_by_one(adapter, features, labels, text, clip, weight)
    assert (norms > clip).any() and (norms < clip).any(), "some are clipped and some are not"
    found = clipped_sum(adapter, features, labels, text, clip, weight)
    assert torch.allclose(found.norms, norms, rtol=1e-9)
    for own, other in zip(found.gradients, expected, strict=True):
        assert torch.allclose(own, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ABLE)
def test_one_image_more_changes_a_sum_by_the_clip_at_most(method):
    adapter, features, labels, text = case(method)
    whole = clipped_sum(adapter, features, labels, text, 0.01)
    less = clipped_sum(adapter, features[1:], labels[1:], text, 0.01)
    pairs = zip(whole.gradients, less.gradients, strict=True)
    change = torch.cat([(own - other).flatten() for own, other in pairs]).norm()
    assert 0 < float(change) <= 0.01 * (1 + 1e-9)


@pytest.mark.parametrize("method", ABLE)
def test_no_image_at_all_gives_zeros(method):
    adapter, features, labels, text = case(method)
    found = clipped_sum(adapter, features[:0], labels[:0], text, 1.0)
    assert [own.shape for own in found.gradients] == [own.shape for own in adapter.parameters()]
    assert not any(own.any() for own in found.gradients)


class Shifted(Adapter):
    """Trains something that is no layer."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.shift = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, inputs):
        return normalize(self.layers(inputs) + self.shift, dim=-1)


def test_what_has_no_closed_form_is_refused_by_name():
    for method in ABLE:
        require_image_gradients(case(method)[0])
    with pytest.raises(MethodError, match="of shift are not known in closed form"):
        require_image_gradients(Shifted(nn.Linear(WIDTH, WIDTH)))
    frozen_shift = Shifted(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH, affine=False))
    frozen_shift.shift.requires_grad_(False)
    with pytest.raises(MethodError, match=r"of layers\.1 are not known"):
        require_image_gradients(frozen_shift)


def test_a_layer_that_is_used_twice_is_refused():
    layer = nn.Linear(WIDTH, WIDTH)
    adapter = Shifted(layer, layer)
    adapter.shift.requires_grad_(False)
    _, features, labels, text = case("fedclip")
    with pytest.raises(MethodError, match="used twice in one pass"):
        clipped_sum(adapter, features.float(), labels, text.to(features.float()), 1.0)
