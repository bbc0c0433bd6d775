"""The graphs of one adapter, with the encoder in the precision that was asked for or that passes the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from fedclip_edge.errors import ParityError
from fedclip_export.check_images import Samples
from fedclip_export.graphs.encoder import encoder_graph
from fedclip_export.graphs.heads import head_graph
from fedclip_export.graphs.preprocess import preprocess_graph, read_spec
from fedclip_export.graphs.quantize import quantize
from fedclip_export.parity import DeviceChain, Parity, ParityCheck, parity_table
from fedclip_export.reference import Reference
from fedclip_export.source import Source

AUTO = ("int8", "int8-weights", "fp32")
"""What ``auto`` tries, in this order: the first that passes the gate is taken."""


@dataclass(frozen=True)
class Graphs:
    """The three graphs of a bundle, and how closely they agree with PyTorch.

    Attributes
    ----------
    preprocess, encoder, head
        The graphs.
    precision, image_size
        The encoder's: its precision, and the side of its input in pixels.
    chain
        The graphs as they were measured, loaded in onnxruntime.
    parity
        PyTorch's row, then one per precision that was measured.
    """

    preprocess: onnx.ModelProto
    encoder: onnx.ModelProto
    head: onnx.ModelProto
    precision: str
    image_size: int
    chain: DeviceChain
    parity: Sequence[Parity]


def choose_graphs(
    source: Source, backbone: Path, precision: str, samples: Samples, tell: Callable[[str], None]
) -> Graphs:
    """Convert, measure, and return the first precision that agrees with PyTorch.

    Parameters
    ----------
    source
        The adapter.
    backbone
        The backbone's folder.
    precision
        ``fp32``, ``fp16``, ``int8``, ``int8-weights``, or ``auto``, which goes through :data:`AUTO`.
    samples
        Images to calibrate and to check with.
    tell
        Called with a line on what is being done.

    Raises
    ------
    ParityError
        When none does; the message holds the table.
    """
    tell(f"PyTorch answers {len(samples.check)} images ({samples.name})")
    reference = Reference(backbone, source.saved)
    check = ParityCheck(reference, samples.check)
    tell(f"exporting {source.backbone_name}")
    head = head_graph(source.saved, source.head_metadata())
    spec = read_spec(backbone)
    preprocess = preprocess_graph(spec, source.backbone_metadata())
    encoders = {"fp32": encoder_graph(backbone, source.backbone_metadata() | {"precision": "fp32"})}
    calibration = reference.pixels(samples.calibration or samples.check[:1])
    chains: dict[str, DeviceChain] = {}
    rows: list[Parity] = []
    for candidate in AUTO if precision == "auto" else (precision,):
        if candidate not in encoders:
            tell(f"converting to {candidate}")
            encoders[candidate] = quantize(encoders["fp32"], candidate, calibration)
        if candidate not in chains:
            tell(f"comparing onnxruntime with PyTorch: {', '.join(encoders)}")
            chains |= {
                name: DeviceChain.load(preprocess, encoders[name], head) for name in encoders if name not in chains
            }
            rows = check.measure(chains)
        fault = next(row for row in rows if row.precision == candidate).fault()
        if fault is None:
            return Graphs(preprocess, encoders[candidate], head, candidate, spec.size, chains[candidate], rows)
        tell(f"{candidate} is not good enough: {fault}")
    raise ParityError(
        f"the {candidate} export does not answer as PyTorch does: {fault}. Nothing was written. {_ADVICE[candidate]}.\n"
        f"{parity_table(rows)}"
    )


_ADVICE = {
    "fp32": "Please report it with the output of 'fedclip doctor'",
    "fp16": "Take --precision fp32",
    "int8": "Calibrate on more images like the devices' own (--calibrate FOLDER), or take --precision auto",
    "int8-weights": "Take --precision fp32 or auto",
}
