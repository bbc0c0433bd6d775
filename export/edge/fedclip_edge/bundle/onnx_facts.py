"""What an ONNX file says about itself, read without running or even loading it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.bundle.protobuf import FIXED32, FIXED64, Budget, Message, View, WireError

FLOAT, UINT8 = 1, 2
_MAX_NESTING = 8
_OUTSIDE = 1
# Element types of onnx.proto that can hold NaN, as numpy reads their raw bytes (complex as pairs); bfloat16 apart.
_REALS = {1: "<f4", 10: "<f2", 11: "<f8", 14: "<f4", 15: "<f8"}
_FLOAT16, _BFLOAT16 = 10, 16

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Port:
    """An input or an output of a graph.

    Attributes
    ----------
    name
        As a session is fed by.
    kind
        Element type by its number in ONNX: ``FLOAT``, ``UINT8`` or another.
    shape
        Sizes; None where any size will do.
    """

    name: str
    kind: int
    shape: Shape


@dataclass
class Facts:
    """What :func:`inspect` found.

    Attributes
    ----------
    inputs, outputs
        The ports of the outermost graph.
    domains
        Operator domains that are imported or used, at any depth.
    operators
        Domain and name of every operator that is used, at any depth.
    outside
        Files that tensors at any depth point to ("" for a tensor that says so without a name).
    not_finite
        Whether some weight or attribute is NaN or infinite; only when weights were asked for.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    domains: set[str] = field(default_factory=set)
    operators: set[tuple[str, str]] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)
    not_finite: bool = False


def inspect(content: View, weights: bool) -> Facts:
    """Read what matters for safety out of an ONNX file.

    Parameters
    ----------
    content
        The file.
    weights
        Whether to look at every number in it.

    Raises
    ------
    WireError
        When this is not ONNX, or it has functions or training steps of its own, or is nested or split beyond reason.
    """
    model = Message(content, 0, len(content), Budget())
    if model.has(20) or model.has(25):
        raise WireError("it brings functions or training steps of its own")
    graph = model.message(7)
    facts = Facts(_ports(graph, 11), _ports(graph, 12))
    facts.domains = {opset.text(1) for opset in model.messages(8)}
    if not facts.domains:
        raise WireError("it names no operator set")
    _visit_graph(graph, facts, weights, _MAX_NESTING)
    return facts


def _ports(graph: Message, number: int) -> tuple[Port, ...]:
    return tuple(_port(info) for info in graph.messages(number))


def _port(info: Message) -> Port:
    tensor = info.message(2).message(1)
    sizes = [dim.integer(1) if dim.has(1) else None for dim in tensor.message(2).messages(1)]
    return Port(info.text(1), tensor.integer(1), tuple(sizes))


def _visit_graph(graph: Message, facts: Facts, weights: bool, nesting: int) -> None:
    if nesting < 0:
        raise WireError(f"its graphs are nested deeper than {_MAX_NESTING} levels")
    for tensor in graph.messages(5):
        _visit_tensor(tensor, facts, weights)
    _visit_sparse(graph, 15, facts, weights)
    for node in graph.messages(1):
        facts.domains.add(node.text(7))
        facts.operators.add((node.text(7), node.text(4)))
        for attribute in node.messages(5):
            _visit_attribute(attribute, facts, weights, nesting)


def _visit_attribute(attribute: Message, facts: Facts, weights: bool, nesting: int) -> None:
    for number in (5, 10):
        for tensor in attribute.messages(number):
            _visit_tensor(tensor, facts, weights)
    for number in (22, 23):
        _visit_sparse(attribute, number, facts, weights)
    for number in (6, 11):
        for graph in attribute.messages(number):
            _visit_graph(graph, facts, weights, nesting - 1)
    if weights:
        for number in (2, 7):
            _require_finite(_array(attribute.fixed(number, FIXED32), "<f4"), facts)


def _visit_sparse(parent: Message, number: int, facts: Facts, weights: bool) -> None:
    for sparse in parent.messages(number):
        for part in (1, 2):
            for tensor in sparse.messages(part):
                _visit_tensor(tensor, facts, weights)


def _visit_tensor(tensor: Message, facts: Facts, weights: bool) -> None:
    if tensor.integer(14) == _OUTSIDE or tensor.has(13):
        places = {entry.text(2) for entry in tensor.messages(13) if entry.text(1) == "location"}
        facts.outside |= places or {""}
    if weights:
        for numbers in _numbers(tensor, tensor.integer(2)):
            _require_finite(numbers, facts)


def _numbers(tensor: Message, kind: int) -> Iterator[NDArray[Any]]:
    yield _array(tensor.fixed(4, FIXED32), "<f4")
    yield _array(tensor.fixed(10, FIXED64), "<f8")
    raw = tensor.blob(9)
    if kind in (_FLOAT16, _BFLOAT16):
        # These two may also stand as integers, one for the 16 bits of each number.
        raw += np.asarray([bits & 0xFFFF for bits in tensor.integers(5)], "<u2").tobytes()
    if kind in _REALS:
        yield _array(raw, _REALS[kind])
    elif kind == _BFLOAT16:
        # The upper half of a float32.
        yield (_array(raw, "<u2").astype("<u4") << 16).view("<f4")


def _array(content: bytes, kind: str) -> NDArray[Any]:
    if len(content) % np.dtype(kind).itemsize:
        raise WireError("a tensor has a number that is cut off")
    return np.frombuffer(content, kind)


def _require_finite(numbers: NDArray[Any], facts: Facts) -> None:
    facts.not_finite = facts.not_finite or not bool(np.isfinite(numbers).all())
