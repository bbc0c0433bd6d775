"""A weighted sum of updates that is the same in any order, and however it is divided among workers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

QUANTUM = 2.0**-40
"""What terms are rounded to multiples of: far below the rounding of a float32 parameter."""

LARGEST = 2.0**12
"""From this change of a parameter in one round on, an update cannot be summed; below, all sums are exact."""

Tensors = OrderedDict[str, Tensor]


class ExactSum:
    """Sums weighted changes of parameters in float64, each rounded to a multiple of :data:`QUANTUM` first.

    Multiples of one power of two add without rounding while their sum is below 2^53 of them, so that the sum depends on
    no order (the idea of reproducible summation: Demmel and Nguyen, ARITH 2013). Weights are shares: all that are ever
    added sum to 1 at most.

    Attributes
    ----------
    total
        The sum in quanta, ``[P]`` float64, the parameters one after the other.
    """

    def __init__(self, held: Mapping[str, Tensor]) -> None:
        self._held = dict(held)
        self._sizes = [tensor.numel() for tensor in self._held.values()]
        self.total: NDArray[np.float64] = np.zeros(sum(self._sizes))
        self._parts: Sequence[Tensor] = torch.from_numpy(self.total).split(self._sizes)
        self._terms = torch.empty(sum(self._sizes), dtype=torch.float64).split(self._sizes)

    def add(self, update: Mapping[str, Tensor], share: float) -> str | None:
        """Add ``share`` times the change from what is held to an update of the same names and shapes.

        Return why it cannot be summed, as when it holds NaN; then nothing was added.
        """
        changes = []
        for name, held in self._held.items():
            change = (update[name] - held).reshape(-1)
            if change.numel() and not float(torch.linalg.vector_norm(change, torch.inf)) < LARGEST:
                return _fault(name)
            changes.append(change)
        for part, terms, change in zip(self._parts, self._terms, changes, strict=True):
            part += terms.copy_(change).mul_(share / QUANTUM).round_()
        return None

    def add_rows(self, updates: Mapping[str, Tensor], shares: Sequence[float]) -> list[str | None]:
        """Add K updates, ``[K, ...]`` each on any device, to the bits of :meth:`add`; return each one's fault."""
        device = next(iter(updates.values())).device
        factors = torch.tensor(shares, dtype=torch.float64, device=device) / QUANTUM
        changes = [(updates[name] - held.to(device)).flatten(1) for name, held in self._held.items()]
        faults: list[str | None] = [None] * len(shares)
        for name, change in zip(self._held, changes, strict=True):
            for index in torch.nonzero(~(change.abs().amax(1) < LARGEST)).flatten().tolist():
                faults[index] = faults[index] or _fault(name)
        usable = torch.tensor([fault is None for fault in faults], device=device)
        for part, change in zip(self._parts, changes, strict=True):
            terms = change.double().mul_(factors[:, None]).round_()
            part += terms.where(usable[:, None], 0.0).sum(0).cpu()
        return faults

    def moved(self, totals: Sequence[NDArray[np.float64]], share: float) -> Tensors:
        """Return what is held, moved by the sums of all workers over the ``share`` of weights that was added."""
        whole = torch.from_numpy(np.sum(totals, axis=0)).mul_(QUANTUM / share).split(self._sizes)
        moved = Tensors()
        for (name, held), change in zip(self._held.items(), whole, strict=True):
            moved[name] = (held.double() + change.reshape(held.shape)).to(held.dtype)
        return moved


def _fault(name: str) -> str:
    return f"{name} changed by {LARGEST:.0f} or more in one round, or holds NaN or infinite values"
