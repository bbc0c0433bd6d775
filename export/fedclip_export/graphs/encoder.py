"""From a backbone's vision tower to encoder.onnx."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto
from onnx.external_data_helper import convert_model_to_external_data
from torch import Tensor, nn

from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import OPSET, finalize, require_interface, to_bytes
from fedclip_plugin.backbone.clip import load_model
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.errors import BackboneError

ENCODER = "encoder.onnx"
ENCODER_DATA = "encoder.onnx.data"

_LARGEST_BATCH = 1024
_SMALLEST_EXTERNAL = 1024  # bytes; smaller tensors stay in encoder.onnx


class _Vision(nn.Module):
    """Vision tower and projection, as ``FrozenClip.encode_pixels`` runs them."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.tower = clip.vision_model
        self.projection = clip.visual_projection

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return features ``[B, d]`` of pixels ``[B, 3, S, S]``."""
        features: Tensor = self.projection(self.tower(pixel_values=pixel_values).pooler_output)
        return features


def encoder_graph(clip_folder: Path, metadata: Mapping[str, str]) -> ModelProto:
    """Export the image encoder of a backbone folder in float32.

    Input ``pixel_values``, float32 ``[B, 3, S, S]``; output ``image_features``, float32 ``[B, d]``, not normalised.
    Raises ConversionError when the folder cannot be loaded, or torch cannot export it.
    """
    vision, side, width = _load(clip_folder)
    example = torch.zeros(2, 3, side, side)  # a batch of 1 would be taken for a constant
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                vision,
                (example,),
                input_names=["pixel_values"],
                output_names=["image_features"],
                dynamic_shapes=({0: batch},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConversionError(
            f"torch cannot export the vision tower of {clip_folder}: {error}; torch 2.15 with transformers 5.23 and "
            "onnxscript 0.7 is known to"
        ) from error
    assert program is not None
    model = finalize(program.model_proto, name="encoder", metadata=metadata)
    require_interface(
        model,
        {"pixel_values": ("float32", ("batch", 3, side, side))},
        {"image_features": ("float32", ("batch", width))},
    )
    return model


def save_encoder(model: ModelProto, folder: Path, external_data: bool) -> tuple[Path, ...]:
    """Write an encoder as one file, or as graph and weights; return the files written.

    With `external_data` the weights go to ``encoder.onnx.data``, which Python devices load in half the time and memory.
    """
    content = to_bytes(model)
    path = folder / ENCODER
    if not external_data:
        path.write_bytes(content)
        return (path,)
    split = onnx.load_model_from_string(content)
    (folder / ENCODER_DATA).unlink(missing_ok=True)  # onnx would append to it
    convert_model_to_external_data(split, location=ENCODER_DATA, size_threshold=_SMALLEST_EXTERNAL)
    onnx.save_model(split, path)
    return path, folder / ENCODER_DATA


def _load(folder: Path) -> tuple[_Vision, int, int]:
    try:
        # The eager attention is plain MatMul and Softmax: fewer nodes, and quantisers leave it alone.
        clip = load_model(folder, attention="eager").requires_grad_(False).eval()
    except BackboneError as error:
        raise ConversionError(
            f"backbone {folder} cannot be loaded: {error}; give the folder that the adapter was trained with"
        ) from error
    config = read_clip_config(folder)
    return _Vision(clip).eval(), config.side, config.dim
