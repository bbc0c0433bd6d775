"""The commands that open a bundle: predict, verify, update, rollback, bench."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedclip_edge.bundle import Bundle, open_bundle
from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.bundle.manifest import MANIFEST
from fedclip_edge.cli.printing import answer_line, bench_table, change_text, manifest_lines, print_json, print_notes
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError, ExportError, ImageError
from fedclip_edge.runtime.bench import BATCH
from fedclip_edge.runtime.bench import bench as measure
from fedclip_edge.runtime.edge_classifier import UNCHECKED, EdgeClassifier
from fedclip_edge.runtime.install import install
from fedclip_edge.runtime.prediction import Prediction
from fedclip_edge.runtime.self_test import SelfTest, self_test
from fedclip_edge.terminal import printable

_FIRST = "the first argument is a bundle or a device folder"


def predict(options: argparse.Namespace) -> int:
    """Print the most probable labels of each image; return 0, or 2 when an image could not be read."""
    bad = 0
    answers: list[dict[str, Any]] = []
    width = max(len(printable(str(path))) for path in options.images)
    with open_classifier(options.folder, options) as classifier:
        for path in options.images:
            try:
                prediction = classifier.predict(path, options.top)
            except ImageError as error:
                bad += 1
                answers.append({"image": str(path), "error": str(error)})
                print(f"fedclip-edge: {printable(str(error))}", file=sys.stderr, flush=True)
                continue
            answers.append({"image": str(path), **_answer(prediction)})
            if not options.json:
                print(answer_line(printable(str(path)), width, prediction), flush=True)
        if options.json:
            print_json({**_identity(classifier), "answers": answers})
        else:
            _say_origin(classifier)
    return 2 if bad else 0


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


def update(options: argparse.Namespace) -> int:
    """Install an update, or a full bundle to a device folder that is new or damaged; return 0."""
    _require_no_bundle(options.device)
    require_folder(options.source, "the second argument is the folder of an update or a bundle")
    device = Device(options.device)
    keys = device.keys
    classifier = _open_if_sound(options.device, options)
    if classifier is None:
        install(options.device, options.source, **_settings(options))
        classifier = open_classifier(options.device, options)
        text, facts = f"installed round {classifier.round}", {"installed": True, **_first(classifier)}
    else:
        change = classifier.update(options.source)
        text, facts = change_text(change), {"installed": False, **asdict(change)}
    with classifier:
        kept = [key.id for key in device.keys if key not in keys]
        _say_change(options, classifier, text, {**facts, "keys_kept": kept})
        if not options.json:
            print_notes(f"key {name} is kept and enforced from now on" for name in kept)
    return 0


def rollback(options: argparse.Namespace) -> int:
    """Let the round before answer again; return 0."""
    _require_no_bundle(options.device)
    require_folder(options.device)
    if not Device(options.device).exists:
        raise ExportError(f"{options.device} is no device folder: 'fedclip-edge update' makes one")
    with open_classifier(options.device, options) as classifier:
        change = classifier.rollback()
        _say_change(options, classifier, change_text(change), asdict(change))
    return 0


def bench(options: argparse.Namespace) -> int:
    """Print how long opening, each stage and a change of head take; return 0."""
    require_folder(options.folder)
    result = measure(lambda: open_classifier(options.folder, options))
    if options.json:
        rates = {"one": result.images_per_second(False), "batch": result.images_per_second(True)}
        print_json({**asdict(result), "batch_size": BATCH, "images_per_second": rates})
    else:
        print(bench_table(result))
        print(f"{result.provider}, {result.threads} thread{'s' if result.threads > 1 else ''}")
    return 0


def require_folder(folder: Path, what: str = _FIRST) -> None:
    """Refuse a name that is no folder; who named a file is told `what` is meant."""
    if not folder.exists():
        raise ExportError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; {what}")


def _require_no_bundle(folder: Path) -> None:
    """Refuse a file, or a bundle as delivered, where a device folder is meant, be it a new one."""
    if folder.exists():
        require_folder(folder, "the first argument is a device folder")
    if (folder / MANIFEST).exists() and not Device(folder).exists:
        raise ExportError(
            f"{folder} is a bundle as delivered, not a device folder; name a new folder, to which "
            f"'fedclip-edge update DEVICE {folder}' installs it"
        )


def open_classifier(folder: Path, options: argparse.Namespace) -> EdgeClassifier:
    """Return what a bundle or a device folder serves."""
    require_folder(folder)
    return EdgeClassifier(folder, **_settings(options), count=getattr(options, "count", False))


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return what `EdgeClassifier` and `install` are to trust, and where they run."""
    return {name: getattr(options, name) for name in ("keys", "product", "allow_unsigned", "provider", "threads")}


def _open_if_sound(folder: Path, options: argparse.Namespace) -> EdgeClassifier | None:
    """Return what a device folder serves; None when it is not there yet or refused, and has to be installed to."""
    if not Device(folder).exists:
        return None
    try:
        return open_classifier(folder, options)
    except BundleError:  # the installation that follows mends it, or says why it cannot
        return None


def _test(options: argparse.Namespace) -> tuple[Bundle, SelfTest, tuple[str, ...]]:
    with open_classifier(options.against or options.folder, options) as classifier:
        serving = classifier.serving if options.against is None else classifier.check(options.folder)
        return serving.bundle, self_test(serving), classifier.warnings


def _check_files(options: argparse.Namespace) -> tuple[Bundle, None, tuple[str, ...]]:
    """Check what can be checked without onnxruntime."""
    device = Device(options.against or options.folder)
    trust = device.trust(options.product, load_public_keys(options.keys), options.allow_unsigned)
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
        "privacy": None if manifest.privacy is None else dict(manifest.privacy),
        "bytes": {name: entry.size for name, entry in manifest.files.items() if not entry.installed},
        "self_test": None if tested is None else asdict(tested),
    }


def _identity(classifier: EdgeClassifier) -> dict[str, Any]:
    return {
        "product": classifier.manifest.product,
        "round": classifier.round,
        "sequence": classifier.sequence,
        "key_id": classifier.key_id,
        "provider": classifier.provider,
        "warnings": list(classifier.warnings),
    }


def _first(classifier: EdgeClassifier) -> dict[str, Any]:
    """Return an installation as the change that it is to a device which answered nothing."""
    return {
        "old_round": None,
        "old_sequence": None,
        "encoder_replaced": not classifier.manifest.is_update,
        "labels_added": list(classifier.labels),
        "labels_removed": [],
        "given_up": "",
    }


def _answer(prediction: Prediction) -> dict[str, Any]:
    top = [{"label": label, "probability": round(value, 6)} for label, value in prediction.top]
    told = {"label": prediction.label, "guess": prediction.guess, "known": prediction.known}
    return {**told, "probability": top[0]["probability"], "top": top}


def _say_change(options: argparse.Namespace, classifier: EdgeClassifier, text: str, facts: dict[str, Any]) -> None:
    if options.json:
        print_json({**_identity(classifier), **facts})
    else:
        print(text)
        _say_origin(classifier)


def _say_origin(classifier: EdgeClassifier) -> None:
    """Say on stderr, after the answers, which round gave them and who signed it."""
    signed = f"signed by key {classifier.key_id}" if classifier.key_id else "signature not checked (no key)"
    print(f"round {classifier.round}, sequence {classifier.sequence}, {signed}", file=sys.stderr, flush=True)
    print_notes(text for text in classifier.warnings if text != UNCHECKED)
