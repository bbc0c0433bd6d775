"""A grid of images with what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedclip_plugin.report.plots.style import INK, SOFT, new_figure, styled

COLUMNS = 7


@dataclass(frozen=True)
class Sample:
    """One image and its answer.

    Attributes
    ----------
    pixels
        ``[H, W, 3]`` uint8.
    true, predicted
        Class names.
    confidence
        Probability of the predicted class.
    """

    pixels: npt.NDArray[np.uint8]
    true: str
    predicted: str
    confidence: float


@styled
def sample_grid(samples: Sequence[Sample]) -> Figure:
    """Draw images seven in a row; a wrong answer has a thick frame, a cross and the true class below.

    Parameters
    ----------
    samples
        At least one.
    """
    rows = -(-len(samples) // COLUMNS)
    figure = new_figure(1.42 * rows)
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes, sample in zip(grid.flat, samples, strict=False):
        _cell(axes, sample)
    for axes in grid.flat[len(samples) :]:
        axes.set_axis_off()
    return figure


def _cell(axes: Axes, sample: Sample) -> None:
    wrong = sample.predicted != sample.true
    axes.imshow(sample.pixels)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=INK if wrong else SOFT, linewidth=3 if wrong else 0.5)
    mark, weight = ("✗", "bold") if wrong else ("✓", "normal")
    axes.set_title(
        f"{mark} {sample.predicted} {sample.confidence:.2f}", loc="center", fontsize=6.8, fontweight=weight, pad=3
    )
    axes.set_xlabel(f"is {sample.true}" if wrong else "", fontsize=6.8, labelpad=2)
