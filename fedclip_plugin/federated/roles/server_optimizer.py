"""What the server makes of an average: FedOpt (Reddi et al., arXiv 2003.00295), over any method.

To the server's optimiser the pseudo-gradient is ``delta = global - average``: stepping along it with rate 1 is FedAvg.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

ADAM_BETAS = (0.9, 0.99)
ADAM_TAU = 1e-3
"""Section 5 of the paper: the degree of adaptivity, in place of Adam's epsilon."""

Tensors = OrderedDict[str, Tensor]
_Moments = dict[str, Tensor]


class _Step(NamedTuple):
    """One tensor's step: where it is, the average, the sizes of the step, and what is remembered."""

    current: Tensor
    average: Tensor
    lr: float
    momentum: float
    moments: _Moments

    @property
    def delta(self) -> Tensor:
        """The pseudo-gradient: where the global adapter is, less where the silos' average is."""
        return self.current - self.average


class ServerOptimizer:
    """Moves the global adapter towards the average of a round's updates.

    ``none`` takes the average. ``sgd`` is FedAvgM (Hsu et al., arXiv 1909.06335): ``v = momentum v + delta``, a step
    of ``-lr v``; with ``lr`` 1 and no momentum the result is the average, bit for bit. ``adam`` is FedAdam, algorithm
    2 of the paper: no bias correction, ``v`` begun at ``tau^2``, a step of ``-lr m / (sqrt(v) + tau)``, which is at
    most about ``lr`` for every parameter: 1 is far too much where weights are of the order of 0.01.

    Attributes
    ----------
    remembers
        Whether a step depends on those before.
    """

    def __init__(self, name: str, lr: float = 1.0, momentum: float = 0.0) -> None:
        self._rule, self._lr, self._momentum = _RULES[name], lr, momentum
        self._moments: dict[str, _Moments] = {}
        self.remembers = name == "adam" or (name == "sgd" and momentum > 0)

    def step(self, current: Mapping[str, Tensor], average: Tensors) -> Tensors:
        """Return the next global adapter from what all silos held and their average; remember what the next needs."""
        moved = Tensors()
        for name, mean in average.items():
            moments = self._moments.setdefault(name, {})
            moved[name] = self._rule(_Step(current[name], mean, self._lr, self._momentum, moments))
        return moved

    def state(self) -> dict[str, Tensor]:
        """Return what is remembered, by name of the parameter and of the moment, such as ``gate.bias:v``."""
        return {f"{name}:{kind}": value for name, kept in self._moments.items() for kind, value in kept.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a :meth:`state`."""
        self._moments = {}
        for key, value in tensors.items():
            name, kind = key.rsplit(":", 1)
            self._moments.setdefault(name, {})[kind] = value


def _take_average(step: _Step) -> Tensor:
    return step.average


def _sgd(step: _Step) -> Tensor:
    delta = velocity = step.delta
    if step.momentum:
        velocity = step.momentum * step.moments.get("v", torch.zeros_like(delta)) + delta
        step.moments["v"] = velocity
    # Not current - lr v: this way the average keeps every bit at rate 1, even the sign of a zero.
    return step.average - (step.lr * velocity - delta)


def _adam(step: _Step) -> Tensor:
    delta, (first, second) = step.delta, ADAM_BETAS
    mean = first * step.moments.get("m", torch.zeros_like(delta)) + (1 - first) * delta
    square = second * step.moments.get("v", torch.full_like(delta, ADAM_TAU**2)) + (1 - second) * delta.square()
    step.moments.update(m=mean, v=square)
    return step.current - step.lr * mean / (square.sqrt() + ADAM_TAU)


_RULES: dict[str, Callable[[_Step], Tensor]] = {"none": _take_average, "sgd": _sgd, "adam": _adam}
