"""Adam by torch's functional form: the first step of a ``torch.optim.Optimizer`` imports all of ``torch._dynamo``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

BETAS = (0.9, 0.98)
EPSILON = 1e-6


class Adam:
    """Fused Adam with coupled weight decay, bit for bit ``torch.optim.Adam(..., fused=True)``.

    Betas and epsilon are the reference's (microsoft/PersonalizedFL, ``fedclip/``).

    Parameters
    ----------
    parameters
        What is trained, on one device.
    learning_rate, weight_decay
        As in ``torch.optim.Adam``.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self._first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient, and forget the gradients."""
        trained = [parameter.grad is not None for parameter in self.parameters]
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        kept = [list(compress(own, trained)) for own in (self.parameters, self._first, self._second, self._steps)]
        self._update(kept, gradients)
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step_first(self, count: int, gradients: Sequence[Tensor]) -> None:
        """Update the first ``count`` rows of every parameter, whose gradients these are; the others wait."""
        own = [[tensor[:count] for tensor in part] for part in (self.parameters, self._first, self._second)]
        self._update([*own, self._steps], gradients)

    def _update(self, kept: Sequence[Sequence[Tensor]], gradients: Sequence[Tensor]) -> None:
        """Update parameters, first moments, second moments and numbers of steps."""
        parameters, first, second, steps = kept
        adam(
            list(parameters),
            list(gradients),
            list(first),
            list(second),
            [],
            list(steps),
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            eps=EPSILON,
            maximize=False,
        )
