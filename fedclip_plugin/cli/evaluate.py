"""``fedclip evaluate``: score an adapter, and zero-shot CLIP, on labelled images, in folders or named by a list."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedclip_edge.arguments import path_argument
from fedclip_edge.calibration import ranked_above
from fedclip_edge.metrics import ClassMetrics
from fedclip_edge.reliability import reliability
from fedclip_edge.terminal import align, message
from fedclip_plugin.cli.options import add_adapter, add_columns, add_images, columns_of
from fedclip_plugin.data import ImageSet, UnreadableImagesError, remarks
from fedclip_plugin.data.image_folders import find_images
from fedclip_plugin.errors import DataError
from fedclip_plugin.recipe.faults import listed
from fedclip_plugin.text import percent

if TYPE_CHECKING:
    from fedclip_plugin.predictions import Evaluation

Sides = tuple[ClassMetrics, ClassMetrics]
"""Of zero-shot CLIP and of the adapter."""

_ALL, _OTHERS = "all images", "images of other classes"
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
    parser.add_argument(
        "--unknown",
        type=path_argument,
        metavar="FOLDER",
        help="images of other classes, at any depth: how well confidence tells them from the others",
    )
    parser.add_argument(
        "--classes-from-folder",
        action="store_true",
        help="the classes are those of the images, seen in training or not: another data set",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_columns(parser, ("file", "label", "silo", "split"))


def act(options: argparse.Namespace) -> int:
    """Print how well an adapter and zero-shot CLIP label images, by folder and by class; return the exit code.

    And what their confidences are worth: the expected calibration error, and with ``--unknown`` how well they tell
    images of other classes from these.
    """
    from fedclip_plugin.classifier import Classifier
    from fedclip_plugin.data.labelled_images import class_names

    columns = columns_of(options, options.images)
    classifier = Classifier.load(options.adapter, options.backbone)
    if options.classes_from_folder:
        classifier = classifier.on_classes(class_names(options.images, columns))
    saved = classifier.saved
    if saved.warning:
        _note(saved.warning)
    cache = None if options.encoder else _cache()
    parts = classifier.image_sets(options.images, columns, options.data_root)
    others = [] if options.unknown is None else [_other_classes(options.unknown, saved.classes)]
    for line in (line for part in parts for line in remarks(part, saved.sample_range)):
        _note(line)
    try:
        found = classifier.evaluate(
            [*parts, *others], skip_bad=options.on_bad_image == "skip", cache=cache, encoder=options.encoder
        )
    except UnreadableImagesError as error:
        raise DataError(f"{error.text}, or give --on-bad-image skip") from error
    skipped = {name: len(own.faults) for name, own in found.items()}
    count = skipped[_ALL] = sum(skipped.values())
    other = found.pop(_OTHERS, None)
    scores, worth = _scores(found, len(saved.classes)), _worth(found, other)
    if options.json:
        told = {name: {"skipped": skipped[name], **_plain(sides, saved.classes)} for name, sides in scores.items()}
        print(json.dumps({name: own | worth[name] for name, own in told.items()}, indent=1))
        return 0
    rows = [*_rows(scores, saved.classes), *_worth_rows(list(worth.values())[-1])]
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


def _other_classes(folder: Path, classes: tuple[str, ...]) -> ImageSet:
    """List images of other classes; their labels mean nothing."""
    if not folder.is_dir():
        raise DataError(f"--unknown takes a folder of images of other classes; {folder} is none: check the path")
    files = tuple(path.relative_to(folder).as_posix() for path in find_images(folder))
    if not files:
        raise DataError(f"--unknown takes a folder of images of other classes; {folder} holds no image")
    return ImageSet(_OTHERS, folder, classes, files, np.zeros(len(files), np.int64))


def _worth(found: Mapping[str, Evaluation], other: Evaluation | None) -> dict[str, dict[str, Any]]:
    """Return what the confidences of each folder, and of all together where there are several, are worth."""
    if other is not None and not len(other.adapter.true):
        raise DataError(f"none of the {_OTHERS} can be read: give others")
    groups = {name: [own] for name, own in found.items()}
    if len(groups) > 1:
        groups[_ALL] = list(found.values())
    return {name: _confidences(own, other) for name, own in groups.items()}


def _confidences(parts: Sequence[Evaluation], other: Evaluation | None) -> dict[str, Any]:
    sides = {
        "zero_shot": [(own.zero_shot, own.zero_shot.confidence) for own in parts],
        "uncalibrated": [(own.adapter, own.uncalibrated) for own in parts],
        "adapter": [(own.adapter, own.adapter.confidence) for own in parts],
    }
    sure = {name: np.concatenate([confidence.double().numpy() for _, confidence in own]) for name, own in sides.items()}
    right = {
        name: np.concatenate([(side.predicted == side.true).numpy() for side, _ in own]) for name, own in sides.items()
    }
    told: dict[str, Any] = {
        "calibration_error": {name: reliability(sure[name], right[name]).error for name in sides},
        "unknown": float((sure["adapter"] < parts[0].threshold).mean()),
    }
    if other is not None:
        pairs = {"zero_shot": other.zero_shot.confidence, "adapter": other.adapter.confidence}
        told["other_classes"] = {
            "images": len(other.adapter.true),
            "auroc": {name: ranked_above(sure[name], own.double().numpy()) for name, own in pairs.items()},
            "unknown": other.unknown,
        }
    return told


def _worth_rows(worth: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows on confidences; of the adapter without its temperature and with it, where it has one."""
    error = worth["calibration_error"]
    before, after = percent(error["uncalibrated"]), percent(error["adapter"])
    changed = before if before == after else f"{before} -> {after}"
    rows = [["calibration error", "", percent(error["zero_shot"]), changed]]
    rows.append(["unknown", "", "-", percent(worth["unknown"])])
    if other := worth.get("other_classes"):
        rows.append(["unknown, other classes", str(other["images"]), "-", percent(other["unknown"])])
        rows.append(["AUROC, known against other", "", *map(percent, other["auroc"].values())])
    return rows


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
