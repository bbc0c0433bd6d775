"""Accuracy of every case on every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedclip_plugin.report.plots.style import FILL, INK, ZERO_SHOT, label_axis, legend_above, panel_grid, styled


@dataclass(frozen=True)
class Bar:
    """One case on one target.

    Attributes
    ----------
    label
        The case; the same labels in the same order in every panel.
    accuracy
        Mean over seeds; None where no cell is there.
    deviation
        Standard deviation over seeds; None for a single seed.
    """

    label: str
    accuracy: float | None
    deviation: float | None = None


@dataclass(frozen=True)
class BarPanel:
    """One target."""

    title: str
    bars: Sequence[Bar]
    zero_shot: float | None


@styled
def accuracy_bars(panels: Sequence[BarPanel]) -> Figure:
    """Draw a panel a target: a bar a case from zero, its deviation, its value, and zero-shot as a line.

    Parameters
    ----------
    panels
        At least one.
    """
    figure, grid = panel_grid(len(panels), 0.5 + 0.21 * len(panels[0].bars))
    for axes, panel in zip(grid, panels, strict=True):
        _panel(axes, panel)
    figure.supxlabel("accuracy in %")
    line = Line2D([], [], color=INK, linestyle=ZERO_SHOT, linewidth=1.1)
    whisker = Line2D([], [], color=INK, marker="|", linewidth=1)
    legend_above(figure, {"zero-shot CLIP": line, "standard deviation over seeds": whisker})
    return figure


def _panel(axes: Axes, panel: BarPanel) -> None:
    for place, bar in enumerate(panel.bars):
        if bar.accuracy is None:
            axes.text(1, place, "no result yet", va="center", fontsize=7, style="italic")
            continue
        axes.barh(
            place,
            100 * bar.accuracy,
            xerr=None if bar.deviation is None else 100 * bar.deviation,
            color=FILL,
            error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2},
        )
        spread = "" if bar.deviation is None else f" ± {100 * bar.deviation:.1f}"
        axes.text(104, place, f"{100 * bar.accuracy:.1f}{spread}", va="center", fontsize=7)
    if panel.zero_shot is not None:
        axes.axvline(100 * panel.zero_shot, color=INK, linestyle=ZERO_SHOT, linewidth=1.1)
    axes.set_xlim(0, 152)
    axes.set_xticks(range(0, 101, 25))
    label_axis(axes, [bar.label for bar in panel.bars])
    axes.set_title(panel.title)
