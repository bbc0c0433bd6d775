"""What every graph goes through before it is written: one header, nothing of the machine, the agreed interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from fedclip_edge.errors import ConversionError
from fedclip_export import __version__

OPSET: int = 18
"""Operator set of the standard domain; the newest that onnxruntime 1.16 runs in full, the first with antialiasing."""

IR_VERSION: int = 8
"""Version of the file format; the lowest that opset 18 allows, so that old runtimes open the file."""

PRODUCER: str = "fedclip-export"

_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_CONTRIBUTED = {"com.microsoft": frozenset({"MatMulNBits"})}

Interface = Mapping[str, tuple[str, tuple[int | str, ...]]]
"""Tensors by name: type as numpy names it, and shape, with a name for every dynamic axis."""


def finalize(model: ModelProto, *, name: str, metadata: Mapping[str, str], version: int = 0) -> ModelProto:
    """Make a graph's bytes depend on weights and code alone; it is changed in place, and returned.

    Exporters and quantisers leave stack traces, folder names and shapes of intermediate values behind; those go.
    `version` is the federated round of a head.
    """
    _strip(model.graph)
    model.graph.name = name
    model.ClearField("doc_string")
    model.producer_name, model.producer_version = PRODUCER, __version__
    model.ClearField("domain")
    model.model_version = version
    model.ir_version = IR_VERSION
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted(metadata.items())))
    _drop_unused_domains(model)
    return model


def to_bytes(model: ModelProto) -> bytes:
    """Check a graph and return its bytes, the same ones for the same graph.

    Raises ConversionError when onnx's full check, shape inference included, finds a fault.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"graph {model.graph.name!r} does not pass onnx's checker: {error}; please report it with the versions of "
            "torch, onnx and onnxscript"
        ) from error
    return bytes(model.SerializeToString(deterministic=True))


def require_interface(model: ModelProto, inputs: Interface, outputs: Interface) -> None:
    """Check that a graph is what a device expects: names, types, axes, operators and versions; ConversionError else.

    The tensors stand in order; an axis is an int, or the name of a dynamic one.
    """
    _require_operators(model)
    initializers = {tensor.name for tensor in model.graph.initializer}
    for kind, found, wanted in (
        ("inputs", [value for value in model.graph.input if value.name not in initializers], inputs),
        ("outputs", list(model.graph.output), outputs),
    ):
        described = interface(found)
        if list(described.items()) != list(wanted.items()):
            raise ConversionError(
                f"graph {model.graph.name!r} has the {kind} {described}; a device expects {dict(wanted)}: this "
                "version of the exporter does not fit the installed torch, transformers or onnx"
            )


def interface(values: Iterable[ValueInfoProto]) -> dict[str, tuple[str, tuple[int | str, ...]]]:
    """Return names, types and shapes of a graph's inputs or outputs."""
    return {value.name: _describe(value) for value in values}


def _describe(value: ValueInfoProto) -> tuple[str, tuple[int | str, ...]]:
    tensor = value.type.tensor_type
    shape = tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    return helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape


def _require_operators(model: ModelProto) -> None:
    if model.ir_version != IR_VERSION:
        raise ConversionError(
            f"graph {model.graph.name!r} is of IR version {model.ir_version}; devices are promised {IR_VERSION}: pass "
            "it through finalize() first"
        )
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != OPSET:
        raise ConversionError(f"graph {model.graph.name!r} uses opset {opsets.get('')}; export it with opset {OPSET}")
    for node in model.graph.node:
        if node.domain not in _STANDARD_DOMAINS and node.op_type not in _CONTRIBUTED.get(node.domain, ()):
            raise ConversionError(
                f"graph {model.graph.name!r} uses the operator {node.domain}.{node.op_type}, which runtimes need not "
                "have; only ONNX's own operators and MatMulNBits are allowed"
            )


def _strip(graph: GraphProto) -> None:
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    values: Iterable[ValueInfoProto | TensorProto] = (*graph.input, *graph.output, *graph.initializer)
    for item in (graph, *graph.node, *values):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            if attribute.type == AttributeProto.GRAPH:
                _strip(attribute.g)


def _drop_unused_domains(model: ModelProto) -> None:
    used = {node.domain for node in model.graph.node} | {""}
    kept = sorted((entry.domain, entry.version) for entry in model.opset_import if entry.domain in used)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in kept)
