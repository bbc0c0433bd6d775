"""The commands that open a bundle: predict, verify, update, rollback, bench."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedclip_export.bundle import Device, Manifest
from fedclip_export.bundle.keys import load_public_keys
from fedclip_export.edge.text import answer_line, bench_table, change_text, manifest_lines, print_json
from fedclip_export.errors import BundleError, ImageError
from fedclip_export.runtime.bench import BATCH
from fedclip_export.runtime.bench import bench as measure
from fedclip_export.runtime.classifier import UNSIGNED, EdgeClassifier
from fedclip_export.runtime.install import install
from fedclip_export.runtime.prediction import Prediction
from fedclip_export.runtime.selftest import SelfTest, self_test
from fedclip_export.runtime.sessions import SessionMaker


def predict(options: argparse.Namespace) -> int:
    """Print the most probable labels of each image; return 0, or 2 when an image could not be read."""
    bad = 0
    answers: list[dict[str, Any]] = []
    width = max(len(str(path)) for path in options.images)
    with _open(options.folder, options) as classifier:
        for path in options.images:
            try:
                prediction = classifier.predict(path, options.top)
            except ImageError as error:
                bad += 1
                answers.append({"image": str(path), "error": str(error)})
                print(f"fedclip-edge: {error}", file=sys.stderr, flush=True)
                continue
            answers.append({"image": str(path), **_answer(prediction)})
            if not options.json:
                print(answer_line(str(path), width, prediction), flush=True)
        if options.json:
            print_json({**_identity(classifier), "answers": answers})
        else:
            _say_origin(classifier)
    return 2 if bad else 0


def verify(options: argparse.Namespace) -> int:
    """Print what a folder holds after all checks and self-tests; return 0 (a refusal is raised)."""
    if options.against is None:
        with _open(options.folder, options) as classifier:
            bundle, warnings = classifier.serving.bundle, classifier.warnings
            tested = self_test(classifier.serving)
        kind = "device" if Device(options.folder).exists else "bundle"
    else:
        with _open(options.against, options) as classifier:
            candidate, warnings = classifier.check(options.folder), classifier.warnings
            bundle, tested = candidate.bundle, self_test(candidate)
        kind = "update" if bundle.manifest.is_update else "bundle"
    if options.json:
        facts = _facts(options.folder, kind, bundle.manifest, bundle.key_id, tested)
        print_json({**facts, "warnings": list(warnings)})
        return 0
    print("\n".join(manifest_lines(options.folder, kind, bundle.manifest, bundle.key_id, tested)))
    _warn(warnings)
    return 0


def update(options: argparse.Namespace) -> int:
    """Install an update, or a full bundle to a device folder that does not exist yet; return 0."""
    if not Device(options.device).exists:
        install(
            options.device,
            options.source,
            keys=options.keys,
            product=options.product,
            provider=options.provider,
            threads=options.threads,
        )
        with _open(options.device, options) as classifier:
            return _say_change(options, classifier, f"installed round {classifier.round}", {"installed": True})
    with _open(options.device, options) as classifier:
        change = classifier.update(options.source)
        return _say_change(options, classifier, change_text(change), {"installed": False, **asdict(change)})


def rollback(options: argparse.Namespace) -> int:
    """Let the round before answer again; return 0."""
    if not Device(options.device).exists:
        raise BundleError("missing-file", f"{options.device} is no device folder: 'fedclip-edge update' makes one")
    with _open(options.device, options) as classifier:
        change = classifier.rollback()
        return _say_change(options, classifier, change_text(change), asdict(change))


def bench(options: argparse.Namespace) -> int:
    """Print how long opening, each stage and a change of head take; return 0."""
    maker = SessionMaker.choose(options.provider, options.threads, spinning=False)
    result = measure(options.folder, load_public_keys(options.keys), options.product, maker)
    if options.json:
        rates = {"one": result.images_per_second(False), "batch": result.images_per_second(True)}
        print_json(
            {
                **asdict(result),
                "batch_size": BATCH,
                "images_per_second": rates,
                "provider": maker.providers[0],
                "threads": maker.threads,
            }
        )
    else:
        print(bench_table(result))
        print(f"{maker.providers[0]}, {maker.threads} thread{'s' if maker.threads > 1 else ''}")
    return 0


def _open(folder: Path, options: argparse.Namespace) -> EdgeClassifier:
    return EdgeClassifier(
        folder, keys=options.keys, product=options.product, provider=options.provider, threads=options.threads
    )


def _identity(classifier: EdgeClassifier) -> dict[str, Any]:
    return {
        "product": classifier.manifest.product,
        "round": classifier.round,
        "sequence": classifier.sequence,
        "key_id": classifier.key_id,
        "provider": classifier.provider,
        "warnings": list(classifier.warnings),
    }


def _answer(prediction: Prediction) -> dict[str, Any]:
    top = [{"label": label, "probability": round(value, 6)} for label, value in prediction.top]
    return {**top[0], "top": top}


def _facts(folder: Path, kind: str, manifest: Manifest, key_id: str | None, tested: SelfTest) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "kind": kind,
        "product": manifest.product,
        "round": manifest.round,
        "sequence": manifest.sequence,
        "not_before": manifest.not_before,
        "expires": manifest.expires,
        "key_id": key_id,
        "labels": list(manifest.labels),
        "backbone": manifest.backbone["name"],
        "precision": manifest.precision,
        "bytes": {name: entry.size for name, entry in manifest.files.items() if not entry.installed},
        "self_test": asdict(tested),
    }


def _say_change(options: argparse.Namespace, classifier: EdgeClassifier, text: str, facts: dict[str, Any]) -> int:
    if options.json:
        print_json({**_identity(classifier), **facts})
    else:
        print(text)
        _say_origin(classifier)
    return 0


def _say_origin(classifier: EdgeClassifier) -> None:
    """Say on stderr, after the answers, which round gave them and who signed it."""
    signed = f"signed by key {classifier.key_id}" if classifier.key_id else "not signed by a key you hold"
    print(f"round {classifier.round}, sequence {classifier.sequence}, {signed}", file=sys.stderr, flush=True)
    _warn(tuple(text for text in classifier.warnings if classifier.key_id or text != UNSIGNED))


def _warn(warnings: tuple[str, ...]) -> None:
    for text in warnings:
        print(f"note: {text}", file=sys.stderr, flush=True)
