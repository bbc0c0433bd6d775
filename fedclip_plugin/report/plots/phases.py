"""Where a round's time goes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedclip_plugin.report.plots.style import INK, labelled, legend_above, looks, new_figure, round_axis, styled


@styled
def phase_stack(rounds: npt.NDArray[np.int64], phases: Mapping[str, npt.NDArray[np.float64]]) -> Figure:
    """Draw the seconds of each phase stacked by round, and their means beside.

    Parameters
    ----------
    rounds
        Consecutive rounds, ``[R]``, at least one.
    phases
        Seconds by phase, ``[R]`` each, the lowest of the stack first.
    """
    figure = new_figure(3.1)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    edges = np.append(rounds - 0.5, rounds[-1] + 0.5)
    floor = np.zeros(len(rounds))
    for look, (name, seconds) in zip(looks(len(phases)), phases.items(), strict=True):
        left.stairs(
            floor + seconds,
            edges,
            baseline=floor,
            fill=True,
            facecolor=look.color,
            edgecolor="white",
            hatch=look.hatch,
            linewidth=0,
            label=name,
        )
        floor = floor + seconds
    left.set_xlim(edges[0], edges[-1])
    left.set_ylim(0)
    round_axis(left)
    left.set_xlabel("round")
    left.set_ylabel("seconds")
    left.set_title("each round")
    legend_above(figure, labelled(left), columns=6)
    _means(right, phases)
    return figure


def _means(axes: Axes, phases: Mapping[str, npt.NDArray[np.float64]]) -> None:
    means = [float(np.mean(seconds)) for seconds in phases.values()]
    bars = axes.barh(list(phases), means, edgecolor="white", linewidth=0.3)
    for bar, look in zip(bars, looks(len(means)), strict=True):
        bar.set_facecolor(look.color)
        bar.set_hatch(look.hatch)
    axes.bar_label(bars, [seconds_text(value) for value in means], padding=3, color=INK)
    axes.set_title("mean round")
    axes.set_xticks([])
    axes.margins(x=0.25)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)


def seconds_text(seconds: float) -> str:
    """Return a duration with a unit that suits it."""
    if seconds < 0.1:
        return f"{1000 * seconds:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:,.0f} s"
