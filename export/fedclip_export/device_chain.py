"""The three graphs of a bundle in onnxruntime, as a device runs them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from fedclip_export.arrays import Array, Image
from fedclip_export.graphs.finalize import to_bytes
from fedclip_plugin.data import open_rgb


class DeviceChain:
    """Preprocessing, encoder and head, one after the other, on the CPU.

    Shapes as in :class:`~fedclip_export.reference.Reference`.

    Parameters
    ----------
    preprocess, encoder, head
        The graphs.

    Attributes
    ----------
    megabytes
        Size of the encoder.
    load_ms
        Milliseconds that onnxruntime took to load the encoder.
    """

    def __init__(self, preprocess: onnx.ModelProto, encoder: onnx.ModelProto, head: onnx.ModelProto) -> None:
        encoder_bytes = to_bytes(encoder)
        self.megabytes = len(encoder_bytes) / 1e6
        began = time.perf_counter()
        self._encoder = open_session(encoder_bytes)
        self.load_ms = 1e3 * (time.perf_counter() - began)
        self._preprocess, self._head = open_session(to_bytes(preprocess)), open_session(to_bytes(head))

    def pixels(self, paths: Sequence[Path]) -> Array:
        """Return what the encoder sees of image files, ``[N, 3, S, S]``."""
        return np.concatenate([self.pixels_of(np.asarray(open_rgb(path))) for path in paths])

    def pixels_of(self, image: Image) -> Array:
        """Return what the encoder sees of one image uint8 ``[H, W, 3]``: ``[1, 3, S, S]``."""
        result: Array = self._preprocess.run(["pixel_values"], {"image": image})[0]
        return result

    def features(self, pixels: Array) -> Array:
        """Return image features ``[N, d]``."""
        result: Array = self._encoder.run(["image_features"], {"pixel_values": pixels})[0]
        return result

    def logits(self, features: Array) -> Array:
        """Return logits ``[N, C]``."""
        result: Array = self._head.run(["logits"], {"image_features": features})[0]
        return result


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Return a graph loaded in onnxruntime, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1  # as PyTorch when latencies are compared
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
