"""Accuracy against what it cost so far: bytes and seconds, logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, Formatter, FuncFormatter, LogLocator, NullFormatter

from fedclip_plugin.report.plots.style import INK, labelled, legend_above, looks, new_figure, styled


@dataclass(frozen=True)
class Series:
    """Accuracy as it grew.

    Attributes
    ----------
    label
        On which images.
    accuracy
        Fractions, ``[R]``; NaN where it was not measured.
    """

    label: str
    accuracy: npt.NDArray[np.float64]
    zero_shot: float | None = None


@styled
def cost_curves(
    total_bytes: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64], series: Sequence[Series]
) -> Figure:
    """Draw accuracy against cumulative bytes, and against cumulative seconds.

    Parameters
    ----------
    total_bytes, seconds
        Spent up to each point, ``[R]``; points that cost nothing have no place on a logarithmic axis and are left out.
    series
        The curves, ``[R]`` each.
    """
    figure = new_figure(3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, spent in ((left, total_bytes), (right, seconds)):
        for look, one in zip(looks(len(series)), series, strict=True):
            shown = ~np.isnan(one.accuracy) & (spent > 0)
            axes.plot(
                spent[shown],
                100 * one.accuracy[shown],
                color=look.color,
                linestyle=look.dashes,
                marker=look.marker,
                markersize=3,
                label=one.label,
            )
            if one.zero_shot is not None:
                axes.axhline(100 * one.zero_shot, color=look.color, linestyle=look.dashes, linewidth=0.8)
    bytes_axis(left)
    seconds_axis(right)
    left.set_ylabel("accuracy in %")
    entries = labelled(left)
    if any(one.zero_shot is not None for one in series):
        entries["thin, level: zero-shot CLIP on the same images"] = Line2D([], [], color=INK, linewidth=0.8)
    legend_above(figure, entries)
    return figure


def bytes_axis(axes: Axes) -> None:
    """Make the horizontal axis a logarithmic one of bytes (kB = 1000 bytes)."""
    _log_axis(axes, EngFormatter(unit="B"))
    axes.set_xlabel("bytes sent so far, up and down, all silos")


def seconds_axis(axes: Axes) -> None:
    """Make the horizontal axis a logarithmic one of seconds."""
    _log_axis(axes, FuncFormatter(lambda value, _: f"{value:g} s"))
    axes.set_xlabel("seconds of rounds so far")


def _log_axis(axes: Axes, formatter: Formatter) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.set_minor_formatter(NullFormatter())
