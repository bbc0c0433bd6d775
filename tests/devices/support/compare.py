"""Comparisons of a device's answers with Python's."""

import numpy as np

from fedclip_edge.bundle import Manifest
from fedclip_plugin.data.read_image import open_rgb


def golden_images(delivery):
    return Manifest.from_bytes((delivery.bundle / "manifest.json").read_bytes()).golden.images


def expected(python, paths):
    return [python(np.asarray(open_rgb(path))) for path in paths]


def differences(found, wanted):
    """Return max |dlogit| for each image; ``found`` is what a host answered."""
    return [float(np.abs(np.float32(one["logits"]) - two).max()) for one, two in zip(found, wanted, strict=True)]


def answers(found):
    """Return what a host said of the golden images, then of the files."""
    return [{name: one[name] for name in ("label", "guess", "known")} for one in (*found["golden"], *found["files"])]


def equal_labels(found, wanted):
    """Return the share of images whose likeliest label is the same."""
    same = [int(np.argmax(one["logits"])) == int(two.argmax()) for one, two in zip(found, wanted, strict=True)]
    return sum(same) / len(same)


def median(found, stage):
    return float(np.median([one["milliseconds"][stage] for one in found]))
