"""Smaller and faster forms of an encoder: half precision, and two kinds of 8-bit weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto

from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import finalize, interface, require_interface

Pixels = npt.NDArray[Any]

LOWEST_RUNTIME: Mapping[str, str] = {"fp32": "1.16", "fp16": "1.16", "int8": "1.16", "int8-weights": "1.22"}
"""Lowest onnxruntime that runs each precision on a CPU, as tried; 1.21 refuses MatMulNBits of 8 bits."""

_BATCH = 8  # calibration images at once; the memory needed grows with it, not with their number
_BLOCK = 128  # weights that share a scale
_INT8_ARITHMETIC = 4  # MatMulNBits' accuracy_level: without it 8-bit weights are slower than float32


def quantize(model: ModelProto, precision: str, calibration: Pixels) -> ModelProto:
    """Return an encoder in another precision, with the same inputs, outputs and metadata (but for ``precision``).

    It is ``fp16``, ``int8``, or ``int8-weights``; the float32 model is left as it is. `calibration` are preprocessed
    images, float32 ``[N, 3, S, S]`` with N >= 1, which set the ranges of ``int8``: 64 of the kind that devices will see
    are enough. Raises ConversionError when the precision has no converter, the images are not what the encoder takes,
    or the converted encoder is not what devices expect.
    """
    if precision not in _CONVERTERS:
        raise ConversionError(f"precision {precision!r}; an encoder can be {', '.join(_CONVERTERS)}")
    _check(model, calibration)
    copy = ModelProto()
    copy.CopyFrom(model)
    with _quiet():
        converted = _CONVERTERS[precision](copy, calibration)
    metadata = {entry.key: entry.value for entry in model.metadata_props} | {"precision": precision}
    finalize(converted, name=model.graph.name, metadata=metadata, version=model.model_version)
    require_interface(converted, interface(model.graph.input), interface(model.graph.output))
    return converted


def _check(model: ModelProto, calibration: Pixels) -> None:
    wanted = tuple(axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim)[1:]
    if calibration.shape[1:] != wanted or len(calibration) < 1 or calibration.dtype != np.float32:
        raise ConversionError(
            f"calibration images of shape {list(calibration.shape)} and type {calibration.dtype}; the encoder takes "
            f"float32 [N, {', '.join(map(str, wanted))}] with at least one image"
        )


def _half(model: ModelProto, calibration: Pixels) -> ModelProto:
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    kept = [*DEFAULT_OP_BLOCK_LIST, "LayerNormalization", "Softmax"]  # onnxruntime 1.16 cannot run them in float16
    converted = ONNXModel(convert_float_to_float16(model, keep_io_types=True, op_block_list=kept))
    converted.topological_sort()  # the converter appends its casts
    return _model(converted)


def _int8(model: ModelProto, calibration: Pixels) -> ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    name = model.graph.input[0].name
    batches = ({name: calibration[start : start + _BATCH]} for start in range(0, len(calibration), _BATCH))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "quantised.onnx"
        quantize_static(
            model,
            path,
            SimpleNamespace(get_next=lambda: next(batches, None)),  # a CalibrationDataReader in all but name
            quant_format=QuantFormat.QDQ,
            # One by one: quantised attention products give garbage under onnxruntime's default optimisations, and
            # quantize_static does not heed MatMulConstBOnly.
            nodes_to_quantize=_products_with_weights(model),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Percentile is no closer on clip-tiny (centred cosine 0.9994 as well), and keeps all activations in memory.
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load_model(path)


def _int8_weights(model: ModelProto, calibration: Pixels) -> ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(model, bits=8, block_size=_BLOCK, accuracy_level=_INT8_ARITHMETIC)
    quantizer.process()
    return _model(quantizer.model)


def _model(wrapper: Any) -> ModelProto:
    model: ModelProto = wrapper.model
    return model


def _products_with_weights(model: ModelProto) -> list[str]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's quantisers from logging every node, and from setting up the process's root logger."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)


_CONVERTERS: Mapping[str, Callable[[ModelProto, Pixels], ModelProto]] = {
    "fp16": _half,
    "int8": _int8,
    "int8-weights": _int8_weights,
}
