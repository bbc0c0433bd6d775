"""Adapters on their way: what is sent in place of the parameters, and what the other end makes of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor

from fedclip_plugin.federated.messages.codec import CODECS

Tensors = OrderedDict[str, Tensor]


class ErrorFeedback:
    """One end of a connection: compresses what it sends, expands what it receives.

    A lossy codec writes the difference to a reference, parameters that both ends hold. What it loses is kept and
    added to the next difference (error feedback: Seide et al., Interspeech 2014; Karimireddy et al., arXiv
    1901.09847, algorithm 2), so that nothing is lost for good. Without a codec the parameters themselves travel.

    Both ends compute the same bits: on the CPU, one rounding an operation.
    """

    def __init__(self, codec: str) -> None:
        self._codec = CODECS[codec]
        self._residual: dict[str, Tensor] = {}

    @property
    def remembers(self) -> bool:
        """Whether messages are lossy, so that both ends must remember what was sent before."""
        return self._codec is not None

    def compress(self, new: Tensors, reference: Tensors) -> tuple[Tensors, Tensors]:
        """Return what travels, and the parameters as the other end will see them.

        What is lost is kept for the next call. Where NaN, infinite or immense values come out, the message is as good
        as lost (the server drops it), and what was kept before stays.
        """
        if self._codec is None:
            return new, new
        payload, seen, residual = Tensors(), Tensors(), dict[str, Tensor]()
        for name, tensor in new.items():
            wanted = tensor - reference[name]
            if name in self._residual:
                wanted += self._residual[name]
            parts = self._codec.encode(wanted)
            payload.update(zip(self._names(name), parts, strict=True))
            arrived = self._codec.decode(*parts).to(tensor.dtype)
            seen[name] = reference[name] + arrived
            residual[name] = wanted.sub_(arrived)
        if all(bool(torch.isfinite(lost.sum())) for lost in residual.values()):
            self._residual = residual
        return payload, seen

    def expand(self, payload: Mapping[str, Tensor], reference: Tensors) -> Tensors:
        """Return the parameters that a payload stands for, from those that the sender compressed against."""
        if self._codec is None:
            return Tensors(payload)
        expanded = Tensors()
        for name, tensor in reference.items():
            parts = (payload[part] for part in self._names(name))
            expanded[name] = tensor + self._codec.decode(*parts).to(tensor.dtype)
        return expanded

    def template(self, parameters: Tensors) -> Tensors:
        """Return tensors with the names, shapes and types (not the values) of what travels for ``parameters``."""
        if self._codec is None:
            return parameters
        return Tensors(
            (part, values)
            for name, tensor in parameters.items()
            for part, values in zip(self._names(name), self._codec.encode(tensor), strict=True)
        )

    def state(self) -> dict[str, Tensor]:
        """Return what was lost and is still owed, by name of the parameter; empty before the first message."""
        return dict(self._residual)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a :meth:`state`."""
        self._residual = dict(tensors)

    def _names(self, name: str) -> tuple[str, ...]:
        assert self._codec is not None, "without a codec a tensor travels under its own name"
        return tuple(name + suffix for suffix in self._codec.suffixes)
