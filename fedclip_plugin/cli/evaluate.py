"""``fedclip evaluate``: score an adapter, and zero-shot CLIP, on labelled images, in folders or named by a list."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedclip_edge.arguments import path_argument
from fedclip_edge.metrics import ClassMetrics
from fedclip_edge.terminal import align, message
from fedclip_plugin.cli.options import add_adapter, add_columns, add_images, columns_of
from fedclip_plugin.data import UnreadableImagesError, remarks
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import listed
from fedclip_plugin.text import percent

if TYPE_CHECKING:
    from fedclip_plugin.predictions import Evaluation

Sides = tuple[ClassMetrics, ClassMetrics]
"""Of zero-shot CLIP and of the adapter."""

_ALL = "all images"
_CACHE = Path(".fedclip/features")
_PROBE = 1 << 16  # bytes; a full disk takes an empty file


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_adapter(parser)
    add_images(parser)
    features = parser.add_mutually_exclusive_group()
    features.add_argument("--backbone", metavar="NAME", help="where the adapter's backbone is, if not where it was")
    features.add_argument(
        "--encoder", type=path_argument, metavar="FILE", help="a bundle's encoder.onnx: what a device sees"
    )
    parser.add_argument(
        "--on-bad-image", choices=("error", "skip"), default="error", help="skip: leave out what cannot be read (error)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_columns(parser, ("file", "label", "silo", "split"))


def act(options: argparse.Namespace) -> int:
    """Print how well an adapter and zero-shot CLIP label images, by folder and by class; return the exit code."""
    from fedclip_plugin.classifier import Classifier

    columns = columns_of(options, options.images)
    classifier = Classifier.load(options.adapter, options.backbone)
    saved = classifier.saved
    if saved.warning:
        _note(saved.warning)
    cache = None if options.encoder else _cache()
    parts = classifier.image_sets(options.images, columns, options.data_root)
    for line in (line for part in parts for line in remarks(part, saved.sample_range)):
        _note(line)
    try:
        found = classifier.evaluate(
            parts, skip_bad=options.on_bad_image == "skip", cache=cache, encoder=options.encoder
        )
    except UnreadableImagesError as error:
        raise DataError(f"{error.text}, or give --on-bad-image skip") from error
    scores, skipped = _scores(found, len(saved.classes)), {name: len(own.faults) for name, own in found.items()}
    count = skipped[_ALL] = sum(skipped.values())
    if options.json:
        told = {name: {"skipped": skipped[name], **_plain(sides, saved.classes)} for name, sides in scores.items()}
        print(json.dumps(told, indent=1))
        return 0
    rows = _rows(scores, saved.classes)
    print(align([["in %", "images", "zero-shot CLIP", f"{saved.method}, round {saved.round}"], *rows]))
    if absent := _absent(list(scores.values())[-1], saved.classes):
        print(f"in no mean over classes, as no image is of them: {listed(absent)}")
    if count:
        print(f"left out: {count} image{'s' if count > 1 else ''} that cannot be read")
    return 0


def _scores(found: Mapping[str, Evaluation], classes: int) -> dict[str, Sides]:
    """Return the metrics of each folder and, where there are several, of all images together, which come last."""
    counts = {name: [side.confusion(classes) for side in (own.zero_shot, own.adapter)] for name, own in found.items()}
    if len(counts) > 1:
        counts[_ALL] = [sum(sides[1:], sides[0]) for sides in zip(*counts.values(), strict=True)]
    return {
        name: (ClassMetrics.of(zero_shot), ClassMetrics.of(adapter)) for name, (zero_shot, adapter) in counts.items()
    }


def _rows(scores: Mapping[str, Sides], classes: Sequence[str]) -> list[list[str]]:
    """Return accuracy by folder, then what is told of all images class by class."""
    *_, whole = scores.values()
    rows: list[tuple[str, object, list[float]]] = [
        (f"accuracy, {name}", sides[0].images.sum(), [side.accuracy for side in sides])
        for name, sides in scores.items()
    ]
    rows.append(("balanced accuracy", "", [side.balanced_accuracy for side in whole]))
    rows.append(("macro F1", "", [side.macro_f1 for side in whole]))
    rows += [
        (f"recall, {classes[number]}", count, [side.recall[number] for side in whole])
        for number, count in enumerate(whole[0].images)
        if count
    ]
    return [[label, str(count), *map(percent, values)] for label, count, values in rows]


def _plain(both: Sides, classes: Sequence[str]) -> dict[str, Any]:
    sides, images = dict(zip(("zero_shot", "adapter"), both, strict=True)), both[0].images.tolist()
    return {
        "images": sum(images),
        **{name: side.accuracy for name, side in sides.items()},
        "balanced_accuracy": {name: side.balanced_accuracy for name, side in sides.items()},
        "macro_f1": {name: side.macro_f1 for name, side in sides.items()},
        "recall": {
            label: {"images": images[k], **{name: float(side.recall[k]) for name, side in sides.items()}}
            for k, label in enumerate(classes)
            if images[k]
        },
        "without_images": _absent(both, classes),
    }


def _absent(sides: Sides, classes: Sequence[str]) -> list[str]:
    return [label for label, count in zip(classes, sides[0].images, strict=True) if not count]


def _cache() -> Path | None:
    """Return the folder of the feature cache; None, with a note, where it cannot be written."""
    try:
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=_CACHE, buffering=0) as probe:
            probe.write(bytes(_PROBE))
    except OSError as error:
        _note(f"the feature cache {_CACHE.resolve()} cannot be written ({error.strerror}): nothing is kept in it")
        return None
    return _CACHE


def _note(text: str) -> None:
    """Say something beside the answers, on stderr."""
    print(message(f"note: {text}"), file=sys.stderr, flush=True)
