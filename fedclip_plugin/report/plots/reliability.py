"""Whether a confidence of 80 % is right four times out of five."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fedclip_edge.reliability import Reliability
from fedclip_plugin.report.plots.style import (
    FILL,
    INK,
    SOFT,
    ZERO_SHOT,
    labelled,
    legend_above,
    looks,
    new_figure,
    styled,
)


@styled
def reliability_diagrams(sides: Mapping[str, Reliability]) -> Figure:
    """Draw reliability diagrams side by side, the share in each bin below."""
    figure = new_figure(4.4)
    grid = figure.subplots(2, len(sides), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for (upper, lower), (title, found) in zip(grid.T, sides.items(), strict=True):
        _diagram(upper, found)
        upper.set_title(f"{title}: ECE {100 * found.error:.1f} %")
        _histogram(lower, found)
    grid[0, 0].set_ylabel("accuracy in the bin")
    grid[1, 0].set_ylabel("share")
    gap = looks(2)[1]
    entries: dict[str, Artist] = {
        "accuracy": Patch(facecolor=FILL),
        "gap to mean confidence": Patch(facecolor="none", edgecolor=gap.color, hatch=gap.hatch),
        "perfectly calibrated": labelled(grid[0, 0])["calibrated"],
    }
    legend_above(figure, entries)
    return figure


def _diagram(axes: Axes, found: Reliability) -> None:
    full, width = found.counts > 0, 1 / len(found.counts)
    left = (np.arange(len(found.counts)) * width)[full]
    accuracy, confidence = found.accuracy[full], found.confidence[full]
    gap = looks(2)[1]
    axes.bar(left, accuracy, width, align="edge", color=FILL, edgecolor="white", linewidth=0.6)
    axes.bar(
        left,
        np.abs(confidence - accuracy),
        width,
        bottom=np.minimum(confidence, accuracy),
        align="edge",
        facecolor="none",
        edgecolor=gap.color,
        hatch=gap.hatch,
        linewidth=0.8,
    )
    axes.plot([0, 1], [0, 1], color=INK, linestyle=ZERO_SHOT, linewidth=1.1, label="calibrated")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _histogram(axes: Axes, found: Reliability) -> None:
    width = 1 / len(found.counts)
    left = np.arange(len(found.counts)) * width
    share = found.counts / found.counts.sum()
    axes.bar(left, share, width, align="edge", color=SOFT, edgecolor="white", linewidth=0.6)
    axes.set_xlabel("confidence")
