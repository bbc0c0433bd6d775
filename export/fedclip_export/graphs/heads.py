"""From a saved adapter to head.onnx: adapter, class features and softmax, written node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import finalize, require_interface
from fedclip_export.graphs.graph_builder import GraphBuilder
from fedclip_plugin.methods import METHODS, Adapter, adapter_class
from fedclip_plugin.runs import SavedAdapter

Store = Literal["fp32", "fp16"]
"""How matrices lie in the file; the arithmetic is float32 in any case."""

_SHORTEST = 1e-12  # eps of torch.nn.functional.normalize


class HeadBuilder(GraphBuilder):
    """A graph builder that stores an adapter's tensors as the file is to hold them."""

    def __init__(self, tensors: Mapping[str, npt.NDArray[Any]], store: Store) -> None:
        super().__init__()
        self._tensors = tensors
        self._halves = store == "fp16"
        self.taken: set[str] = set()

    def parameter(self, name: str, *shape: int) -> str:
        """Return one of the adapter's tensors as float32; ConversionError when none has that name and shape."""
        array = self._tensors.get(name)
        if array is None or array.shape != shape:
            found = "missing" if array is None else f"of shape {list(array.shape)}"
            raise ConversionError(
                f"the adapter's tensor {name!r} is {found}; its method has one of shape {list(shape)}: was the adapter "
                "written by another version of fedclip-plugin?"
            )
        self.taken.add(name)
        return self.stored(f"adapter.{name}", array)

    def stored(self, name: str, array: npt.NDArray[Any]) -> str:
        """Store an array and return it as float32; only matrices are worth halving.

        Raises ConversionError when a value is not finite, or would not be as float16.
        """
        kind = np.float16 if self._halves and array.ndim > 1 else np.float32
        with np.errstate(over="ignore"):
            values = array.astype(kind)
        if not np.isfinite(values).all():
            raise ConversionError(
                f"the adapter's {name} has values that are not finite as {np.dtype(kind)}; export an earlier round"
                + (", or store it as fp32" if kind is np.float16 else "")
            )
        stored = self.weights(name, values)
        return self.op("Cast", stored, to=self.FLOAT) if kind is np.float16 else stored


def require_head(method: str) -> None:
    """See that a head can hold adapters of a method; ConversionError, with the reason, when none can."""
    if method not in METHODS:
        raise ConversionError(f"adapter of method {method!r}, which is not known here: update fedclip-plugin")
    if METHODS[method].on_pixels:
        raise ConversionError(
            f"adapter of method {method!r}: it changes the image encoder every round, so that a head alone would meet "
            "another encoder on the device; make a full bundle of it: fedclip export bundle"
        )
    if adapter_class(method).head is Adapter.head:
        raise ConversionError(
            f"adapter of method {method!r}: its class {METHODS[method].adapter} has no head(), which says how it "
            "becomes an ONNX graph"
        )


def head_graph(saved: SavedAdapter, metadata: Mapping[str, str], store: Store = "fp32") -> ModelProto:
    """Build the graph of one round: from image features to logits and probabilities.

    Input ``image_features``, float32 ``[B, d]``; outputs ``logits`` and ``probabilities``, float32 ``[B, C]``, for B
    images, feature width d, and C classes. `store` is the type of the stored matrices. Raises ConversionError when the
    method has no head, or the adapter's tensors are not the method's or not finite.
    """
    require_head(saved.method)
    graph = HeadBuilder(saved.tensors, store)
    adapted = adapter_class(saved.method).head(graph, "image_features", saved.feature_dim)
    unused = set(saved.tensors) - graph.taken
    if unused and saved.class_features is None:  # which come from parameters that the graph does not need
        raise ConversionError(
            f"the adapter holds {', '.join(sorted(unused))}, which method {saved.method!r} does not use; was it "
            "written by another version of fedclip-plugin?"
        )
    _score(graph, _normalised(graph, adapted), saved)
    inputs = {"image_features": ("float32", ("batch", saved.feature_dim))}
    outputs = {name: ("float32", ("batch", len(saved.classes))) for name in ("logits", "probabilities")}
    model = finalize(graph.model(inputs, outputs), name="head", metadata=metadata, version=saved.round)
    require_interface(model, inputs, outputs)
    return model


def _normalised(graph: HeadBuilder, features: str) -> str:
    length = graph.op("ReduceL2", features, graph.ints(-1), keepdims=1)
    return graph.op("Div", features, graph.op("Max", length, graph.floats([_SHORTEST], ())))


def _score(graph: HeadBuilder, features: str, saved: SavedAdapter) -> None:
    wanted = (len(saved.classes), saved.feature_dim)
    if saved.head_features.shape != wanted:
        raise ConversionError(
            f"the adapter's class features are of shape {list(saved.head_features.shape)}; {len(saved.classes)} "
            f"classes and a feature width of {saved.feature_dim} need {list(wanted)}: copy the adapter folder again"
        )
    classes = graph.stored("class_features", saved.head_features)
    scale, added = saved.answer_scale, saved.class_biases
    factors = {"alpha": scale} if added is None else {"alpha": scale, "beta": scale}
    biases = [] if added is None else [graph.stored("class_biases", added)]
    logits = graph.op("Gemm", features, classes, *biases, transB=1, **factors, output="logits")
    graph.op("Softmax", logits, axis=-1, output="probabilities")
