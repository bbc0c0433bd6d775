"""The attention gate, its loss, and the table of methods."""

import dataclasses

import numpy as np
import pytest
import torch

from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.methods import METHODS, create_adapter, parameters_of, scores
from fedclip_plugin.methods.attention_gate import AttentionGate
from fedclip_plugin.methods.clip_adapter import ClipAdapter
from fedclip_plugin.methods.create import restore_adapter
from fedclip_plugin.methods.losses import contrastive_loss
from fedclip_plugin.methods.sigmoid_gate import SigmoidGate
from fedclip_plugin.runs import SavedAdapter
from tests.support.workshop import CLIP_TINY_WIDTH, frozen

ON_FEATURES = [name for name, spec in METHODS.items() if not spec.on_pixels]
STARTS_AS_CLIP = ("zero_shot", "linear_probe", "ridge", "ncm", "gda", "prompt", "full")
"""Methods that draw nothing at random."""


def unit(rows, width, seed):
    features = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(features, dim=-1)


def saved(method="fedclip", width=8, **tensors):
    built = create_adapter("fedclip", frozen(width, 2), 0)
    arrays = {name: value.numpy() for name, value in parameters_of(built).items()}
    return SavedAdapter(
        method,
        width,
        "clip-tiny",
        "f" * 64,
        "fp32",
        10.0,
        ("a", "b"),
        "a {}",
        3,
        "d",
        np.zeros((2, width), np.float32),
        {**arrays, **tensors},
    )


def test_the_gate_of_clip_vit_b32_has_the_papers_parameters_and_bytes():
    gate = AttentionGate(frozen(512))
    count = sum(parameter.numel() for parameter in gate.parameters())
    assert count == 525_312
    assert 4 * count == 2_101_248


@pytest.mark.parametrize("method", sorted(METHODS))
def test_initial_weights_depend_on_the_seed_alone(method):
    def weights(of, seed):
        torch.manual_seed(of)
        return parameters_of(create_adapter(method, frozen(CLIP_TINY_WIDTH), seed))

    first, second, other = weights(1, 5), weights(2, 5), weights(1, 6)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(first[name], other[name]) for name in first) == (method in STARTS_AS_CLIP)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", sorted(METHODS))
def test_initial_weights_are_the_same_on_a_gpu(method):
    here = frozen(CLIP_TINY_WIDTH)
    there = dataclasses.replace(here, clip=lambda: FrozenClip(locate_backbone(BUILT_IN), torch.device("cuda")))
    first, second = (parameters_of(create_adapter(method, built_on, seed=5)) for built_on in (here, there))
    assert all(torch.equal(first[name].cpu(), second[name].cpu()) for name in first)


def test_the_gate_computes_its_equation():
    gate, features = AttentionGate(frozen(6), dtype=torch.float64), unit(4, 6, 0)
    w1, b1, w2, b2 = (gate.hidden.weight, gate.hidden.bias, gate.gate.weight, gate.gate.bias)
    raw = torch.tanh(features @ w1.T + b1) @ w2.T + b2
    gated = features * (raw.exp() / raw.exp().sum(-1, keepdim=True))
    torch.testing.assert_close(gate(features), gated / gated.norm(dim=-1, keepdim=True))


def test_the_sigmoid_gate_starts_at_zero_shot_and_computes_its_equation():
    gate, features = SigmoidGate(frozen(6), dtype=torch.float64), unit(4, 6, 0)
    torch.testing.assert_close(gate(features), features)
    torch.nn.init.normal_(gate.gate.weight)
    raw = torch.tanh(features @ gate.hidden.weight.T + gate.hidden.bias) @ gate.gate.weight.T + gate.gate.bias
    gated = features * 2 / (1 + (-raw).exp())
    torch.testing.assert_close(gate(features), gated / gated.norm(dim=-1, keepdim=True))


def test_the_clip_adapter_computes_its_equation():
    adapter, features = ClipAdapter(frozen(8), dtype=torch.float64), unit(4, 8, 0)
    bottleneck = ((features @ adapter.down.weight.T).clamp(min=0) @ adapter.up.weight.T).clamp(min=0)
    mixed = 0.2 * bottleneck + 0.8 * features
    torch.testing.assert_close(adapter(features), mixed / mixed.norm(dim=-1, keepdim=True))
    assert sum(parameter.numel() for parameter in ClipAdapter(frozen(512)).parameters()) == 512 * 512 // 2


@pytest.mark.parametrize("method", ON_FEATURES)
def test_a_zero_feature_gives_no_nan(method):
    assert torch.isfinite(create_adapter(method, frozen(CLIP_TINY_WIDTH), 0)(torch.zeros(1, CLIP_TINY_WIDTH))).all()


def test_the_loss_equals_the_sum_over_rows_and_columns():
    adapted, text, labels = unit(5, 6, 1), unit(3, 6, 2), torch.tensor([0, 1, 2, 0, 1])
    similarity = 7.0 * adapted @ text[labels].T
    rows = -sum(similarity[i, i] - similarity[i].logsumexp(0) for i in range(5)) / 5
    columns = -sum(similarity[i, i] - similarity[:, i].logsumexp(0) for i in range(5)) / 5
    torch.testing.assert_close(contrastive_loss(adapted, text, labels, 7.0), (rows + columns) / 2)


def test_the_loss_has_the_gradient_of_the_multi_positive_loss():
    text, labels = unit(3, 6, 2), torch.tensor([0, 1, 2, 0, 1])
    gradients = []
    for positives in (torch.eye(5), (labels[:, None] == labels[None]).double()):
        adapted = unit(5, 6, 1).requires_grad_(True)
        similarity, weights = 7.0 * adapted @ text[labels].T, positives / positives.sum(-1, keepdim=True)
        loss = -(weights * similarity.log_softmax(-1)).sum() - (weights * similarity.T.log_softmax(-1)).sum()
        gradients.append(torch.autograd.grad(loss, adapted)[0])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-14, rtol=0)


def test_scores_are_scaled_cosines():
    adapted, text = unit(4, 6, 1), unit(3, 6, 2)
    torch.testing.assert_close(scores(adapted, text, 10.0), 10.0 * adapted @ text.T)


def test_a_saved_adapter_is_restored_exactly():
    original = parameters_of(create_adapter("fedclip", frozen(8, 2), 0))
    restored = parameters_of(restore_adapter(saved()))
    assert all(torch.equal(original[name], restored[name]) for name in original)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (saved(method="sorcery"), "method 'sorcery'"),
        (saved(**{"hidden.weight": np.zeros((3, 3), np.float32)}), "does not fit"),
        (saved(extra=np.zeros(1, np.float32)), "does not fit"),
    ],
)
def test_an_adapter_of_something_else_is_refused(broken, message):
    with pytest.raises(AdapterFileError, match=message):
        restore_adapter(broken)
