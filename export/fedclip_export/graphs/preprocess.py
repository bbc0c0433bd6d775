"""A backbone's image preprocessing as an ONNX graph, bit for bit what PIL and transformers compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto

from fedclip_edge.errors import ConversionError
from fedclip_export.graphs.finalize import finalize, require_interface
from fedclip_export.graphs.graph_builder import GraphBuilder
from fedclip_export.graphs.resample import FILTERS, Axis, Crop, resample_columns, resample_rows
from fedclip_plugin.backbone.preprocessing import center_crop_of, processor_of
from fedclip_plugin.data.decoding.center_crop import HEIGHT_FIRST, CenterCrop
from fedclip_plugin.errors import BackboneError

_BICUBIC = 3  # PIL.Image.Resampling.BICUBIC
_RESCALE = 1 / 255
_SWITCHES = ("do_resize", "do_rescale", "do_normalize")
_EXPORTED = (
    "bicubic or bilinear resize of the shortest edge and a centre crop of the same size, or of both edges; 1/255; "
    "normalisation"
)


@dataclass(frozen=True)
class PreprocessSpec:
    """What a CLIP's processor does to an image.

    `size` is the side S of the square that the encoder sees, in pixels; `mean` and `std` are of values between 0 and 1.
    `height_first`: an image whose height loses more than twice as many pixels as its width is resized along the height
    first, as Pillow does since 13.0; before, the width always came first. The order shows, since levels are rounded in
    between. `resample`, `squash` and `half_even` are those of ``CenterCrop``.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    height_first: bool = True
    resample: int = _BICUBIC
    squash: bool = False
    half_even: bool = False


def read_spec(backbone_folder: Path) -> PreprocessSpec:
    """Read the settings of a backbone's image processor.

    Raises ConversionError when the folder has none, or one whose steps the graph does not have.
    """
    try:
        processor = processor_of(backbone_folder)
        crop = center_crop_of(backbone_folder, processor)
    except (OSError, ValueError, BackboneError) as error:
        raise ConversionError(
            f"backbone {backbone_folder} has no image processor that transformers can read: {error}; give the folder "
            "that the adapter was trained with"
        ) from error
    return _check(backbone_folder, processor.to_dict(), crop)


def preprocess_graph(spec: PreprocessSpec, metadata: Mapping[str, str]) -> ModelProto:
    """Build the graph from an RGB image to what the encoder sees.

    The shorter side is resized to S, the longer one to ``S * long // short``, and the S x S centre is kept; or both
    sides are resized to S. Only the part of the image that the centre needs is ever resized, so the memory needed is
    bounded for images as thin as 1 to 5,000.

    Input ``image``, uint8 ``[H, W, 3]``; output ``pixel_values``, float32 ``[1, 3, S, S]``.
    """
    graph = GraphBuilder()
    tall = _begins_with_height(graph, spec) if spec.height_first else None
    upright = graph.transpose_if(tall, "image", (1, 0, 2)) if tall else "image"
    sides = graph.op("Shape", upright, start=0, end=2)
    resized, crop = _resized(graph, sides, spec), Crop(FILTERS[spec.resample], spec.half_even)
    rows, columns = (Axis.of(graph, sides, resized, axis, spec.size, crop) for axis in (0, 1))
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


def _resized(graph: GraphBuilder, sides: str, spec: PreprocessSpec) -> str:
    """Return the sides after resizing, ``[2]`` int64 as those before."""
    if spec.squash:
        return graph.ints(spec.size, spec.size)
    return graph.op("Div", graph.op("Mul", sides, graph.ints(spec.size)), graph.op("ReduceMin", sides, keepdims=1))


def _begins_with_height(graph: GraphBuilder, spec: PreprocessSpec) -> str:
    """Whether Pillow resizes along the height first: it loses more than twice as many pixels as the width."""
    height, width = (graph.op("Shape", "image", start=axis, end=axis + 1) for axis in (0, 1))
    if spec.squash:
        lost, width = (graph.op("Sub", side, graph.ints(spec.size)) for side in (height, width))
        return graph.op("Greater", lost, graph.op("Mul", graph.op("Max", width, graph.ints(0)), graph.ints(2)))
    longer = graph.op("Greater", height, graph.op("Mul", width, graph.ints(2)))  # the same, where the shape is kept
    return graph.op("And", longer, graph.op("Greater", width, graph.ints(spec.size)))


def _check(folder: Path, settings: Mapping[str, Any], crop: CenterCrop | None) -> PreprocessSpec:
    rules = {switch: (settings[switch], True) for switch in _SWITCHES} | {
        "resample": (settings["resample"], settings["resample"] if settings["resample"] in FILTERS else _BICUBIC),
        "rescale_factor": (settings["rescale_factor"], _RESCALE),
    }
    for name, (found, wanted) in rules.items():
        if found != wanted:
            raise ConversionError(
                f"backbone {folder}: its image processor has {name} = {found!r}; only {wanted!r} can be exported "
                f"({_EXPORTED})"
            )
    if crop is None or crop.shorter != crop.side:
        told = {name: settings.get(name) for name in ("size", "crop_size", "do_center_crop", "do_pad")}
        raise ConversionError(
            f"backbone {folder}: its image processor has {told}, which cannot be exported ({_EXPORTED})"
        )
    mean, std = (tuple(float(value) for value in settings[key]) for key in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ConversionError(
            f"backbone {folder}: its image processor has mean {mean} and std {std}; a backbone has three positive "
            "deviations"
        )
    return PreprocessSpec(crop.side, mean, std, HEIGHT_FIRST, crop.resample, crop.squash, crop.half_even)
