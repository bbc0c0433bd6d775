"""Accuracy by round, or by shots, one panel a curve, with zero-shot CLIP as a level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fedclip_plugin.report.plots.style import (
    INK,
    SOFT,
    ZERO_SHOT,
    legend_above,
    looks,
    panel_grid,
    round_axis,
    styled,
)

_MANY_POINTS = 60


@dataclass(frozen=True)
class AccuracyCurve:
    """One panel.

    Attributes
    ----------
    title
        What was measured, and on what.
    rounds
        Round of each point, ``[R]``; or whatever else the curve is along.
    accuracy
        Fraction of images labelled correctly, ``[R]``; NaN where it was not measured.
    zero_shot
        CLIP's own, None where it is unknown.
    selected
        The selected round, None where there is none to mark.
    spread
        Half the width of the band around the curve, ``[R]``, such as the standard deviation over seeds.
    """

    title: str
    rounds: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]
    zero_shot: float | None = None
    selected: int | None = None
    spread: npt.NDArray[np.float64] | None = None


@styled
def accuracy_panels(curves: Sequence[AccuracyCurve], what: str, band: str = "", along: str = "round") -> Figure:
    """Draw one panel a curve, accuracies on the same scale; rounds too, unless some curves are longer than others.

    Parameters
    ----------
    curves
        At least one.
    what
        What the curves show, for the legend.
    band
        What the band shows, for the legend; empty without one.
    along
        What curves go along; other than rounds on a scale of powers of two, each point with its number.
    """
    lengths = {int(curve.rounds[-1]) for curve in curves}
    figure, panels = panel_grid(len(curves), 1.75, same_x=len(lengths) == 1)
    for axes, curve in zip(panels, curves, strict=True):
        _panel(axes, curve)
        if along == "round":
            round_axis(axes)
        else:
            axes.set_xscale("log", base=2)
            axes.set_xticks(curve.rounds, [str(own) for own in curve.rounds])
    figure.supxlabel(along)
    figure.supylabel("accuracy in %")
    _legend(figure, curves, what, band)
    return figure


def _panel(axes: Axes, curve: AccuracyCurve) -> None:
    look, measured = looks(1)[0], ~np.isnan(curve.accuracy)
    rounds, percent = curve.rounds[measured], 100 * curve.accuracy[measured]
    if curve.spread is not None:
        half = 100 * curve.spread[measured]
        axes.fill_between(rounds, percent - half, percent + half, color=look.color, alpha=0.2, linewidth=0)
    axes.plot(rounds, percent, color=look.color, marker="." if len(rounds) <= _MANY_POINTS else "", label="accuracy")
    if curve.zero_shot is not None:
        axes.axhline(100 * curve.zero_shot, color=INK, linestyle=ZERO_SHOT, linewidth=1.1, label="zero-shot")
    where = np.flatnonzero(rounds == curve.selected)
    if where.size:
        axes.axvline(rounds[where[0]], color=SOFT, linestyle=":", linewidth=1)
        axes.plot(rounds[where], percent[where], "o", markersize=8, fillstyle="none", color=INK, label="selected")
    axes.set_title(curve.title)
    axes.margins(y=0.12)


def _legend(figure: Figure, curves: Sequence[AccuracyCurve], what: str, band: str) -> None:
    look = looks(1)[0]
    entries: dict[str, Artist] = {what: Line2D([], [], color=look.color, marker=".")}
    if band:
        entries[band] = Patch(color=look.color, alpha=0.2)
    if any(curve.zero_shot is not None for curve in curves):
        entries["zero-shot CLIP"] = Line2D([], [], color=INK, linestyle=ZERO_SHOT, linewidth=1.1)
    if any(curve.selected is not None for curve in curves):
        circle = Line2D([], [], color=INK, marker="o", markersize=8, fillstyle="none", linestyle=":", linewidth=1)
        entries["selected round"] = circle
    legend_above(figure, entries)
