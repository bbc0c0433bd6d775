"""What is taken for what, and how much a confidence is worth, side by side for several classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedclip_plugin.report.labelled import Labelled
from fedclip_plugin.report.measures import calibrate, confusion
from fedclip_plugin.report.page import Picture
from fedclip_plugin.report.plots.confusion import confusion_matrices
from fedclip_plugin.report.plots.reliability import reliability_diagrams


def confusion_picture(
    name: str,
    domain: str,
    true: npt.NDArray[np.int64],
    predicted: Mapping[str, npt.NDArray[np.int64]],
    classes: Sequence[str],
) -> Picture:
    """Draw a confusion matrix for each classifier.

    Parameters
    ----------
    name
        Of the picture's files.
    domain
        Whose images they are.
    true
        Class indices, ``[N]``.
    predicted
        Title to the answers for the same N images, ``[N]`` each.
    classes
        Names.
    """
    matrices = {title: confusion(true, labels, len(classes)) for title, labels in predicted.items()}
    return Picture(
        name,
        confusion_matrices(matrices, classes),
        f"Confusion matrices on {domain}: {', '.join(predicted)}.",
        f"Answers on {domain}. Rows are true classes, columns the answers; right answers lie on the diagonal, and a "
        "dark cell beside it is a class that is taken for another one.",
    )


def reliability_picture(name: str, domain: str, true: npt.NDArray[np.int64], sides: Mapping[str, Labelled]) -> Picture:
    """Draw a reliability diagram for each classifier.

    Parameters
    ----------
    name, domain, true
        As for :func:`confusion_picture`.
    sides
        Title to the answers for the same N images.
    """
    found = {title: calibrate(side.confidence, side.predicted == true) for title, side in sides.items()}
    errors = ", ".join(f"{title} {100 * one.error:.1f} %" for title, one in found.items())
    return Picture(
        name,
        reliability_diagrams(found),
        f"Reliability diagrams on {domain}; expected calibration error: {errors}.",
        f"Expected calibration error on {domain} (15 bins of equal width, Guo et al. 2017): {errors}. Bars that end "
        "below the dashed line are answers that are right less often than they claim.",
    )
