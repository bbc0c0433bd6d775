"""``fedclip predict``: label images with an adapter."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fedclip_edge.arguments import path_argument
from fedclip_edge.calibration import UNKNOWN
from fedclip_edge.terminal import message, printable
from fedclip_plugin.cli.options import add_adapter, positive
from fedclip_plugin.data import UnreadableImageError


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_adapter(parser)
    parser.add_argument(
        "images", type=path_argument, nargs="+", metavar="IMAGE", help="JPEG, PNG, WebP, BMP, TIFF or DICOM"
    )
    parser.add_argument("--backbone", metavar="NAME", help="where the adapter's backbone is, if not where it was")
    parser.add_argument("--top", type=positive, default=3, metavar="K", help="labels per image (3)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def act(options: argparse.Namespace) -> int:
    """Print the most probable labels of each image; return 0, or 2 when an image could not be read.

    Where the best is below the adapter's threshold, ``unknown`` stands before them.
    """
    from fedclip_plugin.classifier import Classifier

    classifier = Classifier.load(options.adapter, options.backbone)
    if classifier.saved.warning:
        print(message(f"note: {classifier.saved.warning}"), file=sys.stderr, flush=True)
    answers: dict[str, dict[str, Any]] = {}
    bad = 0
    width = max(len(printable(str(path))) for path in options.images)
    for path in options.images:
        try:
            _require_file(path, options.adapter)
            (labels,) = classifier.predict([path], options.top)
        except UnreadableImageError as error:
            bad += 1
            answers[str(path)] = {"error": str(error)}
            print(message(f"fedclip: {error}"), file=sys.stderr, flush=True)
            continue
        rounded = {label: round(probability, 6) for label, probability in labels.items()}
        answers[str(path)] = rounded if labels.known else {UNKNOWN: rounded}
        if not options.json:
            ranked = [f"{label} {probability:.3f}" for label, probability in labels.items()]
            told = "  ".join(ranked if labels.known else [UNKNOWN, *ranked])
            print(printable(f"{printable(str(path)):{width}}  {told}"), flush=True)
    if options.json:
        print(json.dumps(answers, indent=1))  # in ASCII, which every console and pipe can carry
    return 2 if bad else 0


def _require_file(path: Path, adapter: Path) -> None:
    if path.is_dir():
        raise UnreadableImageError(
            path, "it is a folder", f"Give its files, or score it with: fedclip evaluate {adapter} {path}"
        )
