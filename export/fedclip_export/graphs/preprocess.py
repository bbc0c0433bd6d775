"""CLIP's image preprocessing as an ONNX graph, bit for bit what PIL and transformers compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto

from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import finalize, require_interface
from fedclip_export.graphs.graph_builder import GraphBuilder
from fedclip_export.graphs.resample import Axis, resample_columns, resample_rows
from fedclip_plugin.data.decoding.center_crop import HEIGHT_FIRST

_BICUBIC = 3  # PIL.Image.Resampling.BICUBIC
_RESCALE = 1 / 255
_SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")


@dataclass(frozen=True)
class PreprocessSpec:
    """What a CLIP's processor does to an image.

    `size` is the side S of the square that the encoder sees, in pixels; `mean` and `std` are of values between 0 and 1.
    `height_first`: images more than twice as tall as wide are shrunk along the height first, as Pillow does since 13.0;
    before, the width always came first. The order shows, since levels are rounded in between.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    height_first: bool = True


def read_spec(backbone_folder: Path) -> PreprocessSpec:
    """Read the settings of a backbone's image processor.

    Raises ConversionError when the folder has none, or one whose steps the graph does not have.
    """
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    try:
        processor = CLIPImageProcessorPil.from_pretrained(backbone_folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConversionError(
            f"backbone {backbone_folder} has no image processor that transformers can read: {error}; give the folder "
            "that the adapter was trained with"
        ) from error
    return _check(backbone_folder, processor.to_dict())


def preprocess_graph(spec: PreprocessSpec, metadata: Mapping[str, str]) -> ModelProto:
    """Build the graph from an RGB image to what the encoder sees.

    The shorter side is resized to S, the longer one to ``S * long // short``; the S x S centre (offsets rounded down)
    is kept. Only the part of the image that the centre needs is ever resized, so the memory needed is bounded for
    images as thin as 1 to 5,000.

    Input ``image``, uint8 ``[H, W, 3]``; output ``pixel_values``, float32 ``[1, 3, S, S]``.
    """
    graph = GraphBuilder()
    tall = _is_tall(graph, spec.size) if spec.height_first else None
    upright = graph.transpose_if(tall, "image", (1, 0, 2)) if tall else "image"
    sides = graph.op("Shape", upright, start=0, end=2)
    resized = graph.op("Div", graph.op("Mul", sides, graph.ints(spec.size)), graph.op("ReduceMin", sides, keepdims=1))
    rows, columns = (Axis.of(graph, sides, resized, axis, spec.size) for axis in (0, 1))
    needed = columns.window(graph, rows.window(graph, upright))
    levels = resample_rows(graph, resample_columns(graph, needed, columns), rows)
    levels = graph.transpose_if(tall, levels, (0, 2, 1)) if tall else levels
    unit = graph.op("Mul", levels, graph.double(_RESCALE))  # in float64, as transformers does
    centred = graph.op("Sub", graph.op("Cast", unit, to=graph.FLOAT), graph.floats(spec.mean, (3, 1, 1)))
    scaled = graph.op("Div", centred, graph.floats(spec.std, (3, 1, 1)))
    graph.op("Unsqueeze", scaled, graph.ints(0), output="pixel_values")
    inputs = {"image": ("uint8", ("height", "width", 3))}
    outputs = {"pixel_values": ("float32", (1, 3, spec.size, spec.size))}
    model = finalize(graph.model(inputs, outputs), name="preprocess", metadata=metadata)
    require_interface(model, inputs, outputs)
    return model


def _is_tall(graph: GraphBuilder, size: int) -> str:
    """Whether Pillow begins with the height: it shrinks, and there is more than twice as much of it."""
    height, width = (graph.op("Shape", "image", start=axis, end=axis + 1) for axis in (0, 1))
    longer = graph.op("Greater", height, graph.op("Mul", width, graph.ints(2)))
    return graph.op("And", longer, graph.op("Greater", width, graph.ints(size)))


def _check(folder: Path, settings: Mapping[str, Any]) -> PreprocessSpec:
    size = settings["size"].get("shortest_edge")
    rules = {switch: (settings[switch], True) for switch in _SWITCHES} | {
        "resample": (settings["resample"], _BICUBIC),
        "rescale_factor": (settings["rescale_factor"], _RESCALE),
        "size": (dict(settings["size"]), {"shortest_edge": size}),
        "crop_size": (dict(settings["crop_size"]), {"height": size, "width": size}),
        "do_pad": (bool(settings.get("do_pad")), False),
    }
    for name, (found, wanted) in rules.items():
        if found != wanted:
            raise ConversionError(
                f"backbone {folder}: its image processor has {name} = {found!r}; only {wanted!r} can be exported "
                "(bicubic resize of the shortest edge, centre crop of the same size, 1/255, normalisation, as CLIP has)"
            )
    mean, std = (tuple(float(value) for value in settings[key]) for key in ("image_mean", "image_std"))
    if size is None or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ConversionError(
            f"backbone {folder}: its image processor has size {settings['size']!r}, mean {mean} and std {std}; a CLIP "
            "has a shortest edge and three positive deviations"
        )
    return PreprocessSpec(int(size), mean, std, height_first=HEIGHT_FIRST)
