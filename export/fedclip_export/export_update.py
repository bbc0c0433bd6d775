"""``fedclip export update``: a later round's head for devices that have the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from fedclip_edge.bundle import Manifest, Trust, write_bundle
from fedclip_edge.bundle.acceptance import check_parts, check_product
from fedclip_edge.bundle.golden import Golden
from fedclip_edge.bundle.opening import read_files, read_manifest
from fedclip_edge.errors import ConversionError, ParityError
from fedclip_edge.runtime.sessions import Array, SessionMaker, score
from fedclip_export.graphs.finalize import to_bytes
from fedclip_export.graphs.heads import Store, head_graph, require_head
from fedclip_export.release import Release, file_entry, vacant
from fedclip_export.source import Source, package_versions, read_source
from fedclip_plugin.classifier import Classifier

TOLERANCES: Mapping[Store, float] = {"fp32": 1e-4, "fp16": 5e-2}
"""Largest difference of a logit from PyTorch on the same features, by how the head's weights are stored."""

_PROBES = 64


def make_update(adapter: Path, against: Path, out: Path, store: Store, release: Release) -> str:
    """Write manifest and head of an adapter for devices that hold a bundle; return the report as text.

    Needs neither the backbone nor images: the head is built from the adapter's own file.

    Parameters
    ----------
    adapter
        Such as ``runs/NAME/adapters/best``.
    against
        The full bundle that the devices have.
    out
        The update's folder; it must not exist.
    store
        ``fp32``, or ``fp16`` for half the size.
    release
        Product, sequence, period and signature.

    Raises
    ------
    FedClipError
        When the adapter cannot be read, or belongs to another backbone than the bundle.
    BundleError
        When the bundle is damaged or not a full one.
    ConversionError
        When `out` exists, the sequence is not above the bundle's, or the method changes the encoder.
    ParityError
        When the head's answers differ from PyTorch's by more than the tolerance; nothing is written.
    """
    with vacant(out):
        release.check()
        source = read_source(adapter)
        require_head(source.saved.method)
        if (against / "state.json").exists():
            raise ConversionError(f"{against} is a device folder; give the bundle that was installed there")
        installed = _read_bundle(against, release.product)
        source.saved.require_backbone(installed.backbone["fingerprint"], installed.feature_dim, str(against))
        head = to_bytes(head_graph(source.saved, source.head_metadata(), store))
        logits = _logits(head, installed.golden.features)
        difference = _check(source, head, store)
        carried = {name: replace(file, installed=True) for name, file in installed.files.items() if file.role != "head"}
        manifest = replace(
            installed,
            **release.fields(above=installed.sequence),
            **source.manifest_fields(),
            files={**carried, "head.onnx": file_entry("head.onnx", head)},
            onnxruntime={**installed.onnxruntime, "tested": [onnxruntime.__version__]},
            versions=package_versions(),
            golden=Golden(installed.golden.features, logits, ()),
            parity={"head": {"max_dlogit": f"{difference:.3g}", "store": store}},
        )
        write_bundle(out, manifest, {"head.onnx": head}, release.private_key)
    told = (
        f"head against PyTorch on {_PROBES} features: max |dlogit| {difference:.1e} (tolerance {TOLERANCES[store]:g})"
    )
    return "\n".join([release.summary(out, manifest), told, *source.notes()])


def _read_bundle(folder: Path, product: str) -> Manifest:
    """Return the manifest of an intact full bundle; it may have expired, devices serve it all the same."""
    signed = read_manifest(folder, Trust(product=product, allow_unsigned=True))
    check_product(signed.manifest, product)
    check_parts(signed.manifest, None)
    return read_files(folder, signed).manifest


def _check(source: Source, head: bytes, store: Store) -> float:
    """Return the largest difference from PyTorch, over random features; refuse one beyond the tolerance."""
    features = np.random.default_rng(0).standard_normal((_PROBES, source.saved.feature_dim)).astype(np.float32)
    wanted = Classifier(source.saved, device="cpu").logits_of(torch.from_numpy(features)).numpy()
    difference = float(np.abs(_logits(head, features) - wanted).max())
    if not difference <= TOLERANCES[store]:
        raise ParityError(
            f"the head's logits differ from PyTorch's by {difference:.2g}, more than {TOLERANCES[store]:g}; nothing "
            f"was written. {'Take --store fp32.' if store == 'fp16' else 'Please report it.'}"
        )
    return difference


def _logits(head: bytes, features: Array) -> Array:
    return score(SessionMaker.choose("cpu", 1, spinning=False).head(head), features)[0]
