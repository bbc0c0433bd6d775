"""A graph written node by node: names are given in order, equal constants are stored once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fedclip_export.graphs.finalize import IR_VERSION, OPSET, Interface


class GraphBuilder:
    """Collects nodes and constants, and hands out the names of their outputs."""

    FLOAT = TensorProto.FLOAT
    DOUBLE = TensorProto.DOUBLE
    INT64 = TensorProto.INT64

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node of one output and return that output's name, numbered when not given."""
        name = output or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def transpose_if(self, condition: str, tensor: str, order: Sequence[int]) -> str:
        """Transpose a tensor of rank 3 when a bool tensor of one element holds, else hand it on."""
        branches = {}
        for branch, kind, attributes in (
            ("then_branch", "Transpose", {"perm": list(order)}),
            ("else_branch", "Identity", {}),
        ):
            result = f"{branch}_{len(self._nodes)}"
            node = helper.make_node(kind, [tensor], [result], name=result, **attributes)
            branches[branch] = helper.make_graph([node], branch, [], [helper.make_empty_tensor_value_info(result)])
        return self.op("If", condition, **branches)

    def weights(self, name: str, array: npt.NDArray[Any]) -> str:
        """Store an array under a name of its own."""
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def ints(self, *values: int) -> str:
        """Return an int64 constant, ``[len(values)]``."""
        return self._constant(np.array(values, np.int64))

    def int_scalar(self, value: int) -> str:
        """Return an int64 scalar."""
        return self._constant(np.array(value, np.int64))

    def floats(self, values: Sequence[float], shape: tuple[int, ...]) -> str:
        """Return a float32 constant."""
        return self._constant(np.array(values, np.float32).reshape(shape))

    def double(self, value: float) -> str:
        """Return a float64 scalar."""
        return self._constant(np.array(value, np.float64))

    def model(self, inputs: Interface, outputs: Interface) -> ModelProto:
        """Return the model with these inputs and outputs."""
        graph = helper.make_graph(
            self._nodes, "graph", _values(inputs), _values(outputs), list(self._constants.values())
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _constant(self, array: npt.NDArray[Any]) -> str:
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._names:
            self._names[key] = self.weights(f"constant_{len(self._names)}", array)
        return self._names[key]


def _values(tensors: Interface) -> list[Any]:
    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
        for name, (kind, shape) in tensors.items()
    ]
