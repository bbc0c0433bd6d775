"""The encoder as a device runs it: preprocessing and encoding by onnxruntime, from an exported bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedclip_edge.errors import BundleError
from fedclip_edge.runtime.sessions import ImageEncoder, SessionMaker
from fedclip_plugin.backbone.towers import finite
from fedclip_plugin.data.decoding.decode import See
from fedclip_plugin.errors import BackboneError

FINGERPRINT_KEY = "backbone_fingerprint"
"""Where an exported encoder's metadata names the backbone that it was made from."""


class OnnxEncoder:
    """``encoder.onnx`` of a bundle and ``preprocess.onnx`` beside it, on the CPU.

    Takes the place of :class:`~fedclip_plugin.backbone.clip.FrozenClip` where only images are encoded, so that an
    adapter can be judged on the very features that a device sees.

    Shapes: B images, d width of the features, S side of the encoder's input in pixels.

    Raises
    ------
    BackboneError
        When a file is missing or is not such a graph, or the two are not of one backbone.
    """

    def __init__(self, encoder: Path) -> None:
        preprocess = encoder.parent / "preprocess.onnx"
        self.device = torch.device("cpu")
        self._path = encoder
        self._graphs = _load(preprocess, encoder)
        self.fingerprint = _fingerprint(self._graphs.encoder, encoder)
        """Hash of the backbone that the encoder was exported from."""
        self.feature_dim = self._graphs.feature_dim
        """Width d of the features."""
        if _fingerprint(self._graphs.preprocess, preprocess) != self.fingerprint:
            raise BackboneError(
                f"{preprocess} and {encoder} were made from different backbones; take both of one bundle"
            )

    def see(self, views: Sequence[int] = (0,)) -> See:
        """Return what makes of an RGB image the pixels that the encoder sees, ``[3, S, S]``; a device has no views."""
        assert not any(views), "augmented views are for training"
        return lambda image: [self._graphs.pixel_values(np.asarray(image))[0]]

    def pixels(self, seen: Sequence[npt.NDArray[np.float32]], room: Tensor | None = None) -> Tensor:
        """Return the pixels of images as one batch, ``[B, 3, S, S]``, in memory of its own."""
        return torch.from_numpy(np.stack(seen))

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return image features, ``[B, d]`` float32, from ``[B, 3, S, S]``."""
        return finite(torch.from_numpy(self._graphs.encode(pixels.numpy())), str(self._path))


def _load(preprocess: Path, encoder: Path) -> ImageEncoder:
    for path in (encoder, preprocess):
        if not path.is_file():
            raise BackboneError(f"{path} is missing; give the encoder.onnx of a bundle, with preprocess.onnx beside it")
    maker = SessionMaker.choose("cpu", None, spinning=False)
    try:
        graphs = ImageEncoder(maker.preprocess(preprocess.read_bytes()), maker.encoder(encoder))
    except BundleError as error:
        raise BackboneError(f"the graphs in {encoder.parent} cannot be used: {error}") from error
    for path, session, names in (
        (encoder, graphs.encoder, ("pixel_values", "image_features")),
        (preprocess, graphs.preprocess, ("image", "pixel_values")),
    ):
        if (session.get_inputs()[0].name, session.get_outputs()[0].name) != names:
            raise BackboneError(f"{path} is not a graph from {' to '.join(names)}; give the encoder.onnx of a bundle")
    return graphs


def _fingerprint(session: Any, path: Path) -> str:
    told = session.get_modelmeta().custom_metadata_map.get(FINGERPRINT_KEY)
    if told is None:
        raise BackboneError(
            f"{path} does not say which backbone it was made from; give the encoder.onnx of a bundle that "
            "'fedclip export bundle' wrote"
        )
    return str(told)
