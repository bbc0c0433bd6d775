"""``fedclip evaluate``: score an adapter, and zero-shot CLIP, on labelled images."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedclip_edge.terminal import align, message
from fedclip_plugin.data import UnreadableImagesError, remarks
from fedclip_plugin.errors import DataError

if TYPE_CHECKING:
    from fedclip_plugin.classifier import Evaluation

_CACHE = Path(".fedclip/features")
_PROBE = 1 << 16  # bytes; a full disk takes an empty file


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="such as runs/NAME/adapters/best")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="<class>/<image>, or <domain>/<class>/<image>")
    features = parser.add_mutually_exclusive_group()
    features.add_argument("--backbone", metavar="NAME", help="where the adapter's backbone is, if not where it was")
    features.add_argument("--encoder", type=Path, metavar="FILE", help="a bundle's encoder.onnx: what a device sees")
    parser.add_argument(
        "--on-bad-image", choices=("error", "skip"), default="error", help="skip: leave out what cannot be read (error)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def act(options: argparse.Namespace) -> int:
    """Print the accuracy of an adapter and of zero-shot CLIP on labelled images; return the exit code."""
    from fedclip_plugin.classifier import Classifier

    classifier = Classifier.load(options.adapter, options.backbone)
    saved = classifier.saved
    if saved.warning:
        _note(saved.warning)
    cache = None if options.encoder else _cache()
    parts = classifier.image_sets(options.folder)
    for line in (line for part in parts for line in remarks(part, saved.sample_range)):
        _note(line)
    try:
        found = classifier.evaluate(
            parts, skip_bad=options.on_bad_image == "skip", cache=cache, encoder=options.encoder
        )
    except UnreadableImagesError as error:
        raise DataError(f"{error.text}, or give --on-bad-image skip") from error
    if options.json:
        print(json.dumps({name: _plain(own) for name, own in found.items()}, indent=1))
        return 0
    rows = [_row(name, [own]) for name, own in found.items()]
    if len(found) > 1:
        rows.append(_row("all images", list(found.values())))
    print(align([["accuracy in %", "images", "zero-shot CLIP", f"{saved.method}, round {saved.round}"], *rows]))
    if count := sum(len(own.faults) for own in found.values()):
        print(f"left out: {count} image{'s' if count > 1 else ''} that cannot be read")
    return 0


def _row(name: str, parts: list[Evaluation]) -> list[str]:
    count = sum(len(part.kept) for part in parts)
    right = (sum(part.zero_shot.score.correct for part in parts), sum(part.adapter.score.correct for part in parts))
    return [name, str(count), *(f"{100 * correct / count:.1f}" for correct in right)]


def _plain(own: Evaluation) -> dict[str, Any]:
    scores = {"zero_shot": own.zero_shot.score.accuracy, "adapter": own.adapter.score.accuracy}
    return {"images": len(own.kept), "skipped": len(own.faults), **scores}


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
