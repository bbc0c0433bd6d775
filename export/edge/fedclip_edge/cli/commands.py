"""The commands that open a bundle: predict, update, rollback, bench."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.cli.open_device import open_classifier, open_if_sound, require_folder, require_no_bundle
from fedclip_edge.cli.printing import answer_line, bench_table, change_text, print_json, print_notes
from fedclip_edge.device import Device
from fedclip_edge.errors import ExportError, ImageError
from fedclip_edge.runtime.bench import BATCH
from fedclip_edge.runtime.bench import bench as measure
from fedclip_edge.runtime.edge_classifier import UNCHECKED, EdgeClassifier
from fedclip_edge.runtime.install import install
from fedclip_edge.runtime.prediction import Prediction
from fedclip_edge.runtime.sessions import SessionMaker
from fedclip_edge.terminal import printable


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


def update(options: argparse.Namespace) -> int:
    """Install an update, or a full bundle to a device folder that is new or damaged; return 0."""
    require_no_bundle(options.device)
    require_folder(options.source, "the second argument is the folder of an update or a bundle")
    device = Device(options.device)
    keys = device.keys
    classifier = open_if_sound(options.device, options)
    if classifier is None:
        install(
            options.device,
            options.source,
            keys=options.keys,
            product=options.product,
            provider=options.provider,
            threads=options.threads,
        )
        classifier = open_classifier(options.device, options)
        text, facts = f"installed round {classifier.round}", {"installed": True, **_first(classifier)}
    else:
        change = classifier.update(options.source)
        text, facts = change_text(change), {"installed": False, **asdict(change)}
    with classifier:
        kept = [key.id for key in device.keys] if not keys else []
        _say_change(options, classifier, text, {**facts, "keys_kept": kept})
        if not options.json:
            print_notes(f"key {name} is kept and enforced from now on" for name in kept)
    return 0


def rollback(options: argparse.Namespace) -> int:
    """Let the round before answer again; return 0."""
    require_no_bundle(options.device)
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
    return {**top[0], "top": top}


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
