"""The encoder as a device runs it: preprocessing and encoding by onnxruntime, from an exported bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from fedclip_plugin.backbone.towers import finite
from fedclip_plugin.errors import BackboneError

FINGERPRINT_KEY = "backbone_fingerprint"
"""Where an exported encoder's metadata names the backbone that it was made from."""


class OnnxEncoder:
    """``preprocess.onnx`` and ``encoder.onnx`` of a bundle, on the CPU.

    Takes the place of :class:`~fedclip_plugin.backbone.clip.FrozenClip` where only images are encoded, so that an
    adapter can be judged on the very features that a device sees.

    Shapes: B images, d width of the features, S side of the encoder's input in pixels.

    Parameters
    ----------
    encoder
        The file ``encoder.onnx``; ``preprocess.onnx`` lies beside it.

    Raises
    ------
    BackboneError
        When a file is missing or is not such a graph, or the two are not of one backbone.
    """

    def __init__(self, encoder: Path) -> None:
        preprocess = encoder.with_name("preprocess.onnx")
        self.device = torch.device("cpu")
        self._path = encoder
        self._encoder = _session(encoder, "pixel_values", "image_features")
        self._preprocess = _session(preprocess, "image", "pixel_values")
        self.fingerprint = _fingerprint(self._encoder, encoder)
        """Hash of the backbone that the encoder was exported from."""
        self.feature_dim: int = self._encoder.get_outputs()[0].shape[1]
        """Width d of the features."""
        if _fingerprint(self._preprocess, preprocess) != self.fingerprint:
            raise BackboneError(
                f"{preprocess} and {encoder} were made from different backbones; take both of one bundle"
            )

    def preprocess(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return the pixels that the encoder sees of an RGB image, ``[3, S, S]``."""
        pixels: npt.NDArray[np.float32] = self._preprocess.run(["pixel_values"], {"image": np.asarray(image)})[0][0]
        return pixels

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return image features, ``[B, d]`` float32, from ``[B, 3, S, S]``."""
        features = torch.from_numpy(self._encoder.run(["image_features"], {"pixel_values": pixels.numpy()})[0])
        return finite(features, str(self._path))


def _session(path: Path, takes: str, gives: str) -> Any:
    import onnxruntime

    if not path.is_file():
        raise BackboneError(f"{path} is missing; give the encoder.onnx of a bundle, with preprocess.onnx beside it")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes derive from Exception alone
        raise BackboneError(f"onnxruntime cannot load {path}: {error}; export the bundle again") from error
    if (session.get_inputs()[0].name, session.get_outputs()[0].name) != (takes, gives):
        raise BackboneError(f"{path} is not a graph from {takes} to {gives}; give the encoder.onnx of a bundle")
    return session


def _fingerprint(session: Any, path: Path) -> str:
    told = session.get_modelmeta().custom_metadata_map.get(FINGERPRINT_KEY)
    if told is None:
        raise BackboneError(
            f"{path} does not say which backbone it was made from; give the encoder.onnx of a bundle that "
            "'fedclip-export bundle' wrote"
        )
    return str(told)
