"""The commands on what a device has seen at its place: calibrate, stats."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from fedclip_edge.bundle.acceptance import utc
from fedclip_edge.cli.commands import open_classifier, require_folder
from fedclip_edge.cli.printing import print_json, print_notes
from fedclip_edge.device import Device
from fedclip_edge.device.answer_statistics import forget_statistics, read_statistics
from fedclip_edge.device.state import writing
from fedclip_edge.errors import ExportError
from fedclip_edge.runtime.site_calibration import SiteCalibration
from fedclip_edge.terminal import align, printable


def calibrate(options: argparse.Namespace) -> int:
    """Set a device's own temperature and threshold by labelled images, or take them back; return 0."""
    _require_device(options.device)
    if options.reset == (options.images is not None):
        raise ExportError("calibrate takes a folder <label>/<image>, or --reset")
    if options.reset and options.false_reject_rate is not None:
        raise ExportError("--reset takes no --false-reject-rate: leave it out")
    with open_classifier(options.device, options) as classifier:
        if options.reset:
            classifier.uncalibrate()
            told = classifier.calibration
            if options.json:
                print_json({"calibration": told and told.to_json(), "own": False})
            else:
                print("the bundle's own calibration counts again" if told else "no answer is unknown")
            return 0
        made = classifier.calibrate(options.images, options.false_reject_rate)
        if options.json:
            print_json({**asdict(made), "own": True, "sequence": classifier.sequence})
        else:
            print("\n".join(_lines(made, classifier.sequence)))
            absent = (
                [f"no image is of {', '.join(made.absent)}: give some, or expect less there"] if made.absent else []
            )
            print_notes([*absent, *classifier.warnings])
    return 0


def stats(options: argparse.Namespace) -> int:
    """Print how many images a device answered, with what, and how sure it was; return 0."""
    _require_device(options.device)
    if options.reset:
        with writing(options.device):
            forget_statistics(options.device)
    found = read_statistics(options.device)
    if options.prometheus:
        print(found.prometheus(), end="")
    elif options.json:
        print_json(found.to_json())
    else:
        rows = [["label", "images"], *([label, str(count)] for label, count in found.labels.most_common())]
        rows += [[f"unknown, best guess {label}", str(count)] for label, count in found.unknown.most_common()]
        mean = found.total / found.images if found.images else 0.0
        print(printable(f"{found.images} images since {utc(found.since)}, mean confidence {mean:.3f}"))
        print(align(rows) if found.images else "nothing was counted: predict with --count")
    return 0


def _require_device(folder: Path) -> None:
    require_folder(folder, "the first argument is a device folder")
    if not Device(folder).exists:
        raise ExportError(f"{folder} is no device folder: 'fedclip-edge update' makes one")


def _lines(made: SiteCalibration, sequence: int) -> list[str]:
    own = made.calibration
    rows = [
        ["of these images, in %", "before", "now"],
        ["accuracy", f"{100 * made.accuracy:.1f}", f"{100 * made.accuracy:.1f}"],
        ["expected calibration error", f"{100 * made.error_before:.1f}", f"{100 * made.error_after:.1f}"],
        ["unknown", f"{100 * made.unknown_before:.1f}", f"{100 * made.unknown_after:.1f}"],
    ]
    return [
        f"calibrated by {own.images} images, for sequence {sequence}: temperature {own.temperature:.3g} on top of the "
        f"bundle's, {f'unknown below {own.threshold:.3g}' if own.threshold else 'no answer is unknown'}",
        align(rows),
    ]
