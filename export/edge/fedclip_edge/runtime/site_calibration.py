"""A device's own calibration, from labelled images of its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.calibration import Calibration, calibration_of, confidences, too_few
from fedclip_edge.device import Device
from fedclip_edge.device.own_calibration import write_calibration
from fedclip_edge.errors import ExportError
from fedclip_edge.reliability import reliability
from fedclip_edge.runtime.sessions import Array, Serving

Indices = NDArray[np.int64]
USUAL_RATE = 0.05
"""The false-reject rate where neither the operator nor the bundle names one."""


@dataclass(frozen=True)
class SiteCalibration:
    """What a device was calibrated with, and what that changes on the images that it was calibrated with.

    Attributes
    ----------
    calibration
        The temperature divides the logits that the bundle's head gives.
    accuracy
        Share of the images that are labelled correctly; a calibration does not change it.
    error_before, error_after
        The expected calibration error; after is too good, as the temperature was fitted to these images.
    unknown_before, unknown_after
        Share of the images that are answered ``unknown``.
    absent
        Labels that no image was of: the calibration knows nothing of them.
    """

    calibration: Calibration
    accuracy: float
    error_before: float
    error_after: float
    unknown_before: float
    unknown_after: float
    absent: tuple[str, ...]


def set_calibration(
    device: Device, serving: Serving, logits: Array, labels: Indices, rate: float | None
) -> SiteCalibration:
    """Calibrate what serves by logits [N, C] and labels [N] of a device's own images, and keep it in its folder.

    Raises ExportError when the images are too few or the rate is none, BundleError when the folder cannot be written.
    """
    bundled = serving.bundle.manifest.calibration
    asked = rate if rate is not None else bundled.false_reject_rate if bundled else USUAL_RATE
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not 0 <= asked < 1:
        raise ExportError(f"false_reject_rate = {asked!r}: give a share from 0, below 1, such as 0.05")
    if fault := too_few(len(labels), asked):
        raise ExportError(f"{fault}; give more images, or a higher rate")
    made = calibration_of(logits, labels, float(asked))
    found, right = serving.calibration, logits.argmax(1) == labels
    before = confidences(logits, serving.own.temperature if serving.own else 1.0)
    after = confidences(logits, made.temperature)
    write_calibration(device.folder, serving.bundle.manifest.sequence, made)
    return SiteCalibration(
        made,
        float(right.mean()),
        reliability(before, right).error,
        reliability(after, right).error,
        float((before < (found.threshold if found else 0.0)).mean()),
        float((after < made.threshold).mean()),
        tuple(label for index, label in enumerate(serving.bundle.manifest.labels) if index not in labels),
    )
