"""``fedclip export bundle``: from a federated adapter to a checked, signed folder for devices."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from fedclip_edge.bundle import Manifest, write_bundle
from fedclip_edge.bundle.golden import Golden
from fedclip_edge.errors import ConversionError, ParityError
from fedclip_edge.files import writing_to
from fedclip_edge.images import Pixels
from fedclip_edge.runtime import EdgeClassifier
from fedclip_export.check_images import Samples, gather
from fedclip_export.graphs.encoder import encoder_graph, save_encoder
from fedclip_export.graphs.finalize import to_bytes
from fedclip_export.graphs.heads import head_graph
from fedclip_export.graphs.preprocess import preprocess_graph, read_spec
from fedclip_export.graphs.quantize import LOWEST_RUNTIME, quantize
from fedclip_export.graphs.tuned_encoder import write_tuned
from fedclip_export.parity import DeviceChain, Parity, ParityCheck, Reference, parity_table
from fedclip_export.release import Release, file_entry, vacant
from fedclip_export.source import Source, package_versions, read_source
from fedclip_plugin.methods import METHODS
from fedclip_plugin.methods.create import backbone_of

AUTO = ("int8", "int8-weights", "fp32")
"""What ``auto`` tries, in this order: the first that passes the gate is taken."""

_ADVICE = {
    "fp32": "Please report it with the output of 'fedclip doctor'",
    "fp16": "Take --precision fp32",
    "int8": "Calibrate on more images like the devices' own (--calibrate FOLDER), or take --precision auto",
    "int8-weights": "Take --precision fp32 or auto",
}


def make_bundle(
    adapter: Path,
    out: Path,
    release: Release,
    tell: Callable[[str], None],
    *,
    precision: str = "fp32",
    calibrate: Path | None = None,
    backbone: str | None = None,
    external_data: bool = False,
) -> str:
    """Export an adapter, compare it with PyTorch, and write the bundle; return the report as text.

    Parameters
    ----------
    adapter
        Such as ``runs/NAME/adapters/best``.
    out
        The bundle's folder; it must not exist.
    release
        Product, sequence, period and signature.
    tell
        Called with a line on what is being done.
    precision
        Of the encoder: ``fp32``, ``fp16``, ``int8``, ``int8-weights`` or ``auto``.
    calibrate
        Folder of images of your own to calibrate and check with; None draws some.
    backbone
        Where the adapter's backbone is; None takes the adapter's own word.
    external_data
        Whether the encoder's weights lie in a file of their own.

    Raises
    ------
    FedClipError
        When adapter, backbone or images cannot be used, or do not belong together.
    ConversionError
        When `out` exists or cannot be written, or the backbone cannot be exported.
    ParityError
        When the answers differ from PyTorch's by more than the tolerances; nothing is written.
    """
    with vacant(out), tempfile.TemporaryDirectory(prefix="fedclip-export-") as scratch:
        release.check()
        source = read_source(adapter)
        notes = source.notes()
        clip = backbone_of(source.saved, backbone)
        if METHODS[source.method].on_pixels:
            tell(f"{source.method} has an encoder of its own")
            tuned = Path(scratch) / "tuned"
            source, clip = write_tuned(source, clip, tuned), tuned
        samples = gather(calibrate, precision, Path(scratch), source.saved.sample_range)
        graphs = choose_graphs(source, clip, precision, samples, tell)
        files = _files(graphs, Path(scratch), external_data)
        manifest = _manifest(source, graphs, samples.golden(), files, release)
        _write_and_try(out, manifest, files, release)
    title = f"parity with PyTorch on {graphs.parity[0].images} images ({samples.name}); one thread each"
    return "\n".join([release.summary(out, manifest), "", title, parity_table(graphs.parity), *notes])


@dataclass(frozen=True)
class Graphs:
    """The three graphs of a bundle, and how closely they agree with PyTorch.

    `precision` and `image_size` (pixels, a side) are the encoder's; `chain` is the graphs as they were measured;
    `parity` has PyTorch's row, then one per precision that was measured.
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
    """Convert, measure, and return the first precision that agrees with PyTorch; ``auto`` goes through :data:`AUTO`.

    Raises ParityError, with the table, when none does.
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


def _files(graphs: Graphs, scratch: Path, external_data: bool) -> dict[str, Path]:
    """Write the graphs to a scratch folder; return the files by name."""
    encoder = save_encoder(graphs.encoder, scratch, external_data)
    small = {"preprocess.onnx": graphs.preprocess, "head.onnx": graphs.head}
    for name, graph in small.items():
        (scratch / name).write_bytes(to_bytes(graph))
    return {path.name: path for path in (*encoder, *(scratch / name for name in small))}


def _manifest(
    source: Source,
    graphs: Graphs,
    images: Sequence[Pixels],
    files: dict[str, Path],
    release: Release,
) -> Manifest:
    chain = graphs.chain
    features = chain.features(images)
    torch_ms = graphs.parity[0].latency_ms
    return Manifest(
        **release.fields(),
        **source.manifest_fields(),
        feature_dim=source.saved.feature_dim,
        image_size=graphs.image_size,
        precision=graphs.precision,
        files={name: file_entry(name, path.read_bytes()) for name, path in files.items()},
        onnxruntime={"lowest": LOWEST_RUNTIME[graphs.precision], "tested": [onnxruntime.__version__]},
        versions=package_versions(),
        golden=Golden(features, chain.logits(features), tuple(images)),
        parity={row.precision: row.record(torch_ms) for row in graphs.parity[1:]},
    )


def _write_and_try(out: Path, manifest: Manifest, files: dict[str, Path], release: Release) -> None:
    """Write the bundle beside its place, open it as a device would, and only then give it its name."""
    with (
        writing_to(out, ConversionError),
        tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent) as place,
    ):
        trial = Path(place) / out.name
        write_bundle(trial, manifest, files, release.private_key)
        EdgeClassifier(trial, product=release.product, allow_unsigned=True, provider="cpu").close()
        trial.rename(out)
