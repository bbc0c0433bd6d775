"""``fedclip-edge verify`` checks a bundle, an update or a device folder, and changes nothing."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from importlib.util import find_spec

from fedclip_edge.bundle import Bundle, open_bundle
from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.cli.open_device import open_classifier, require_folder
from fedclip_edge.cli.printing import manifest_lines, print_json, print_notes
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError
from fedclip_edge.runtime.self_test import SelfTest, self_test


def verify(options: argparse.Namespace) -> int:
    """Print what a folder holds after all checks and self-tests; return 0 (a refusal is raised)."""
    require_folder(options.folder)
    if options.against is not None:
        require_folder(options.against, "--against names a device folder or a bundle")
    try:
        bundle, tested, warnings = _test(options) if find_spec("onnxruntime") else _check_files(options)
    except BundleError as error:
        if error.reason != "incomplete" or options.against is not None:
            raise
        raise BundleError("incomplete", "this is an update: name what it is for with --against DEVICE") from error
    kind = "update" if bundle.manifest.is_update else "bundle"
    if options.against is None and Device(options.folder).exists:
        kind = "device"
    if options.json:
        print_json({**_facts(options, kind, bundle, tested), "warnings": list(warnings)})
        return 0
    print("\n".join(manifest_lines(options.folder, kind, bundle.manifest, bundle.key_id, tested)))
    print_notes(warnings)
    return 0


def _test(options: argparse.Namespace) -> tuple[Bundle, SelfTest, tuple[str, ...]]:
    with open_classifier(options.against or options.folder, options) as classifier:
        serving = classifier.serving if options.against is None else classifier.check(options.folder)
        return serving.bundle, self_test(serving), classifier.warnings


def _check_files(options: argparse.Namespace) -> tuple[Bundle, None, tuple[str, ...]]:
    """Check what can be checked without onnxruntime."""
    device = Device(options.against or options.folder)
    trust = device.trust(options.product, load_public_keys(options.keys))
    bundle = device.current(trust) if device.exists else open_bundle(device.folder, trust)
    if options.against is not None:
        bundle = open_bundle(options.folder, trust, installed=device.installed() or bundle.installed())
    return bundle, None, (device.fallback,) if device.fallback else ()


def _facts(options: argparse.Namespace, kind: str, bundle: Bundle, tested: SelfTest | None) -> dict[str, object]:
    manifest = bundle.manifest
    return {
        "folder": str(options.folder),
        "kind": kind,
        "product": manifest.product,
        "round": manifest.round,
        "sequence": manifest.sequence,
        "not_before": manifest.not_before,
        "expires": manifest.expires,
        "key_id": bundle.key_id,
        "labels": list(manifest.labels),
        "backbone": manifest.backbone["name"],
        "precision": manifest.precision,
        "bytes": {name: entry.size for name, entry in manifest.files.items() if not entry.installed},
        "self_test": None if tested is None else asdict(tested),
    }
