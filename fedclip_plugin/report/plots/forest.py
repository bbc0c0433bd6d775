"""Differences to zero-shot CLIP with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fedclip_plugin.report.plots.style import INK, label_axis, legend_above, panel_grid, styled


@dataclass(frozen=True)
class Difference:
    """One case against zero-shot CLIP on the same images.

    Attributes
    ----------
    label
        The case; the same labels in the same order in every panel.
    estimate
        Difference of accuracies, a fraction; None where no cell is there.
    low, high
        Ends of its interval.
    told
        Whether it is called a gain or a loss.
    """

    label: str
    estimate: float | None
    low: float = 0.0
    high: float = 0.0
    told: bool = False


@styled
def forest(panels: Sequence[tuple[str, Sequence[Difference]]]) -> Figure:
    """Draw a forest plot a panel; a full mark tells of a gain or a loss.

    Parameters
    ----------
    panels
        Title and differences, at least one panel.
    """
    figure, grid = panel_grid(len(panels), 0.5 + 0.21 * len(panels[0][1]))
    for axes, (title, differences) in zip(grid, panels, strict=True):
        _panel(axes, differences)
        axes.set_title(title)
    figure.supxlabel("points above zero-shot CLIP")
    told = {"a gain or a loss": INK, "no difference": "white"}
    legend_above(figure, {text: _mark(fill) for text, fill in told.items()})
    return figure


def _mark(fill: str) -> Line2D:
    return Line2D([], [], color=INK, marker="o", markerfacecolor=fill, linewidth=1.2)


def _panel(axes: Axes, differences: Sequence[Difference]) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    for place, one in enumerate(differences):
        if one.estimate is None:
            axes.text(0, place, " no result yet", va="center", fontsize=7, style="italic")
            continue
        axes.plot([100 * one.low, 100 * one.high], [place, place], color=INK, linewidth=1.2, label=one.label)
        axes.plot(100 * one.estimate, place, "o", color=INK, markerfacecolor=INK if one.told else "white")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    label_axis(axes, [one.label for one in differences])
