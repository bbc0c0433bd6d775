"""What is taken for what, and how much a confidence is worth, side by side for several classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedclip_edge.reliability import Reliability
from fedclip_plugin.report.page import Picture
from fedclip_plugin.report.plots.confusion import confusion_matrices
from fedclip_plugin.report.plots.reliability import reliability_diagrams


def confusion_picture(
    name: str, domain: str, matrices: Mapping[str, npt.NDArray[np.int64]], classes: Sequence[str]
) -> Picture:
    """Draw a confusion matrix for each classifier.

    Parameters
    ----------
    matrices
        Title to the matrix of the classifier, ``[C, C]``; row true class, column answer.
    """
    return Picture(
        name,
        confusion_matrices(matrices, classes),
        f"Confusion matrices on {domain}: {', '.join(matrices)}.",
        f"Answers on {domain}. Rows are true classes, columns the answers; right answers lie on the diagonal, and a "
        "dark cell beside it is a class that is taken for another one.",
    )


def reliability_picture(name: str, domain: str, found: Mapping[str, Reliability]) -> Picture:
    """Draw a reliability diagram for each classifier."""
    errors = ", ".join(f"{title} {100 * one.error:.1f} %" for title, one in found.items())
    return Picture(
        name,
        reliability_diagrams(found),
        f"Reliability diagrams on {domain}; expected calibration error: {errors}.",
        f"Expected calibration error on {domain} (15 bins of equal width, Guo et al. 2017): {errors}. Bars that end "
        "below the dashed line are answers that are right less often than they claim.",
    )
