"""Where a silo's rank sends: each message is shown to its policy and log first (:mod:`fedclip_plugin.trust`).

A rank is a process, so that what it sends through is the process's: whoever sends passes here, and nobody can forget to
be given it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from fedclip_plugin.federated.messages.packing.packed_message import PackedMessage
from fedclip_plugin.federated.roles.update_matrix import norm_of_change
from fedclip_plugin.trust.egress import Egress
from fedclip_plugin.trust.outgoing import Outgoing, TensorInfo

_egress: Egress | None = None
"""What this process's rank sends through; None where nothing is asked and nothing logged."""


def current_egress() -> Egress | None:
    """Return what this process's rank sends through."""
    return _egress


@contextmanager
def sending_through(egress: Egress | None) -> Iterator[None]:
    """Let everything that this process sends during a block pass a policy and a log."""
    global _egress  # a rank is a process
    before, _egress = _egress, egress
    try:
        yield
    finally:
        _egress = before


def value_leaves(value: Any, packed: PackedMessage) -> None:
    """Show a value, as it is packed, that is about to go to the server outside of a federation.

    A PolicyError keeps it back.
    """
    if _egress is not None:
        fault = _only_fault(value)
        _egress.leaving(Outgoing(packed.kind, _parts(packed), tensors=_tensors(packed), only_fault=fault))


def message_leaves(egress: Egress, packed: PackedMessage, described: Outgoing) -> None:
    """Show one of FedML's messages, as it is packed, that is about to go to the server; a PolicyError keeps it back.

    What is said of it, ``described``, lacks bytes and tensors: they are those of the packed message.
    """
    egress.leaving(replace(described, parts=_parts(packed), tensors=_tensors(packed)))


def update_norm(seen: Mapping[str, Tensor], arrived: Mapping[str, Tensor]) -> float | None:
    """Return the Euclidean norm of an update: all parameters as the server will see them, less those that had come.

    None where it is no finite number, which a log of JSON cannot hold; the server drops such an update by name.
    """
    held = {name: arrived[name] for name, tensor in seen.items() if tensor.is_floating_point()}
    norm = norm_of_change(held, seen)
    return norm if math.isfinite(norm) else None


def _only_fault(value: Any) -> bool:
    """Return whether a status card says what is wrong, and nothing else."""
    fault = getattr(value, "fault", "")
    return bool(fault) and value == type(value)(fault=fault)


def _parts(packed: PackedMessage) -> list[bytes | memoryview]:
    return [packed.header, *(tensor.memory for tensor in packed.tensors)]


def _tensors(packed: PackedMessage) -> list[TensorInfo]:
    return [TensorInfo(spec.name, spec.shape, spec.dtype) for spec in (tensor.spec for tensor in packed.tensors)]
