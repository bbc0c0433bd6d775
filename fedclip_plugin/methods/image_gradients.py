"""Gradients of single images, clipped and summed in closed form: no image's own gradient is ever made.

Of a linear layer with inputs a and gradients b at its outputs, an image's gradient is the outer product ``b a^T``; its
norm is the product of their norms (Goodfellow 2015, arXiv 1510.01799), and the sum over images, each scaled by c, is
``(c b)^T a``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import cross_entropy, normalize

from fedclip_plugin.errors import MethodError
from fedclip_plugin.features import TextFeatures
from fedclip_plugin.methods.base import Adapter
from fedclip_plugin.methods.linear_probe import LinearProbe
from fedclip_plugin.methods.losses import scores
from fedclip_plugin.methods.regularisers import distillations

_SHARED = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
"""Layers in which images depend on each other, or a second pass differs from the first."""


class ClippedSum(NamedTuple):
    """What a batch of B images says."""

    gradients: list[Tensor]  # sums over the images, each scaled to at most the clip, one for each trained parameter
    norms: Tensor  # of the images' gradients before that, ``[B]``


def require_image_gradients(adapter: Adapter) -> None:
    """Refuse with a MethodError an adapter that trains anything but linear layers, or a linear probe's rows."""
    if type(adapter) is LinearProbe:
        return
    known = {parameter for layer in _linear_layers(adapter) for parameter in layer.parameters(recurse=False)}
    strange = [name for name, own in adapter.named_parameters() if own.requires_grad and own not in known]
    strange += [name for name, layer in adapter.named_modules() if isinstance(layer, _SHARED)]
    if strange or adapter.trains_classes:
        what = ", ".join(strange[:3]) or "class features"
        raise MethodError(
            f"gradients of single images of {what} are not known in closed form, only of layers of class "
            "torch.nn.Linear: train without differential privacy, or take another method"
        )


def clipped_sum(
    adapter: Adapter, inputs: Tensor, labels: Tensor, text: TextFeatures, clip: float, zero_shot_distillation: float = 0
) -> ClippedSum:
    """Return the sum of the images' gradients, each scaled down to the Euclidean norm ``clip`` where it is longer.

    The loss of an image is its cross entropy over all classes, and ``zero_shot_distillation`` times its divergence from
    zero-shot CLIP's answer. It holds for adapters that :func:`require_image_gradients` takes, and for no image at all.

    Parameters
    ----------
    inputs, labels
        Features ``[B, d]`` and class indices ``[B]``.
    clip
        Above 0.
    """
    if type(adapter) is LinearProbe:
        return _of_rows(adapter, inputs, labels, text, clip, zero_shot_distillation)
    with _watched(_linear_layers(adapter)) as passes:
        logits = adapter.logits(inputs, text)
    outputs = torch.autograd.grad(_loss(logits, inputs, labels, text, zero_shot_distillation), passes.outputs)
    squares = [
        vector_norm(gradient, dim=-1).square() * (vector_norm(own, dim=-1).square() + (layer.bias is not None))
        for layer, own, gradient in zip(passes.layers, passes.inputs, outputs, strict=True)
    ]
    norms = torch.stack(squares).sum(0).sqrt()
    factors = _factors(norms, clip)
    sums: dict[Tensor, Tensor] = {}
    for layer, own, gradient in zip(passes.layers, passes.inputs, outputs, strict=True):
        gradient = gradient * factors[:, None]
        sums[layer.weight] = gradient.T @ own
        if layer.bias is not None:
            sums[layer.bias] = gradient.sum(0)
    return ClippedSum([sums[parameter] for parameter in adapter.parameters() if parameter.requires_grad], norms)


def _of_rows(
    probe: LinearProbe, inputs: Tensor, labels: Tensor, text: TextFeatures, clip: float, distillation: float
) -> ClippedSum:
    """Do the same for a linear probe, whose rows r count at unit length w.

    With unit-length features f and gradients b at the products, an image's gradient of row c is ``b_c (f - (w_c f)
    w_c) / |r_c|``, of squared norm ``(b_c / |r_c|)^2 (1 - (w_c f)^2)``. For probabilities p, b is the factor on
    products times p less 1 at the label; of a divergence it is p less the teacher's.
    """
    with torch.no_grad():
        features, lengths = probe(inputs), probe.rows.norm(dim=-1)
        rows = normalize(probe.rows, dim=-1)
        products, scale = features @ rows.T, probe.scale(text)
        each = (scale * products).softmax(-1).mul_(1 + distillation)
        each[torch.arange(len(labels), device=labels.device), labels] -= 1
        if distillation:
            each -= distillation * scores(features, text.features, text.logit_scale).softmax(-1)
        each *= scale / lengths
        norms = (each.square() * (1 - products.square()).clamp(min=0)).sum(-1).sqrt()
        each *= _factors(norms, clip)[:, None]
        whole = each.T @ features
        whole -= (each * products).sum(0)[:, None] * rows
    return ClippedSum([whole], norms)


def _loss(logits: Tensor, inputs: Tensor, labels: Tensor, text: TextFeatures, distillation: float) -> Tensor:
    total = cross_entropy(logits, labels, reduction="sum")
    if distillation:
        teacher = scores(normalize(inputs, dim=-1), text.features, text.logit_scale)
        total = total + distillation * distillations(teacher, logits).sum()
    return total


def _factors(norms: Tensor, clip: float) -> Tensor:
    return clip / norms.clamp(min=clip)


def _linear_layers(adapter: Adapter) -> list[nn.Linear]:
    return [
        layer
        for layer in adapter.modules()
        if isinstance(layer, nn.Linear) and any(own.requires_grad for own in layer.parameters(recurse=False))
    ]


class _Passes:
    """What went through linear layers, in the order in which they were used."""

    def __init__(self) -> None:
        self.layers: list[nn.Linear] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def note(self, layer: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
        """Take in one use of a layer."""
        if layer in self.layers:
            raise MethodError("a layer is used twice in one pass: its gradients of single images are no outer products")
        self.layers.append(layer)
        self.inputs.append(given[0].detach())
        self.outputs.append(output)


@contextmanager
def _watched(layers: list[nn.Linear]) -> Iterator[_Passes]:
    passes = _Passes()
    handles = [layer.register_forward_hook(passes.note) for layer in layers]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()
