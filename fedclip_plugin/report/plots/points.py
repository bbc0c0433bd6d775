"""Accuracy of each case against what it cost until its selected round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from fedclip_plugin.report.plots.costs import bytes_axis, seconds_axis
from fedclip_plugin.report.plots.style import INK, ZERO_SHOT, legend_above, looks, new_figure, styled

_MARKERS = "osDv^PX<>hp"


@dataclass(frozen=True)
class Point:
    """One case.

    Attributes
    ----------
    label
        The case.
    accuracy
        At the selected round, mean over targets and seeds.
    total_bytes, seconds
        Spent until then, mean over targets and seeds; zero where nothing was sent.
    """

    label: str
    accuracy: float
    total_bytes: float
    seconds: float


@styled
def cost_points(points: Sequence[Point], zero_shot: float | None) -> Figure:
    """Draw a numbered point a case, against bytes and against seconds, zero-shot as a level.

    Parameters
    ----------
    points
        At least one; one that cost nothing has no place on a logarithmic axis and is left out there.
    zero_shot
        CLIP's own mean accuracy, None where it is unknown.
    """
    figure = new_figure(3.7)
    left, right = figure.subplots(1, 2, sharey=True)
    entries: dict[str, Artist] = {}
    for number, (point, look) in enumerate(zip(points, looks(len(points)), strict=True), 1):
        marker, label = _MARKERS[number % len(_MARKERS)], f"{number}  {point.label}"
        for axes, spent in ((left, point.total_bytes), (right, point.seconds)):
            if spent > 0:
                place = (spent, 100 * point.accuracy)
                (entries[label],) = axes.plot(*place, marker, color=look.color, markersize=7, markeredgecolor=INK)
                axes.annotate(str(number), place, (5, 3), textcoords="offset points", fontsize=7)
    if zero_shot is not None:
        for axes in (left, right):
            entries["zero-shot CLIP"] = axes.axhline(100 * zero_shot, color=INK, linestyle=ZERO_SHOT, linewidth=1.1)
    for axes in (left, right):
        axes.margins(0.12)
    bytes_axis(left)
    seconds_axis(right)
    left.set_xlabel("bytes until the selected round, all silos")
    right.set_xlabel("seconds of rounds until the selected round")
    left.set_ylabel("accuracy in %")
    legend_above(figure, entries, columns=3)
    return figure
