"""Accuracy of each case against what it cost until its selected round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedclip_plugin.report.plots.costs import bytes_axis, seconds_axis
from fedclip_plugin.report.plots.style import INK, ZERO_SHOT, legend_above, looks, new_figure, styled

_MARKERS = "osDv^PX<>hp"

_ANGLES = np.radians([30, -30, 90, -90, 150, -150, 0, 180])
_AROUND = np.concatenate([radius * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1) for radius in (9.0, 15.0)])
"""Where a number may stand, from its point, in typographic points; the first are the better."""

_CLEAR = 8.0
"""Distance of a number to all other numbers and points at which each is readable."""


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
    places: dict[Axes, dict[int, tuple[float, float]]] = {left: {}, right: {}}
    for number, (point, look) in enumerate(zip(points, looks(len(points)), strict=True), 1):
        marker, label = _MARKERS[number % len(_MARKERS)], f"{number}  {point.label}"
        for axes, spent in ((left, point.total_bytes), (right, point.seconds)):
            if spent > 0:
                place = places[axes][number] = (spent, 100 * point.accuracy)
                (entries[label],) = axes.plot(*place, marker, color=look.color, markersize=7, markeredgecolor=INK)
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
    figure.draw_without_rendering()  # only now is known where a point lies
    for axes, numbered in places.items():
        _write_numbers(axes, numbered)
    return figure


def _write_numbers(axes: Axes, places: Mapping[int, tuple[float, float]]) -> None:
    """Write each number beside its point, where it covers no point and no other number if there is room."""
    dots_a_point = axes.figure.dpi / 72
    taken = {number: axes.transData.transform(place) / dots_a_point for number, place in places.items()}
    crowd = list(taken.values())

    def _room(spot: npt.NDArray[np.float64]) -> float:
        return float(min(np.hypot(*(spot - other)) for other in crowd))

    for number, place in places.items():
        spots = [taken[number] + offset for offset in _AROUND]
        chosen = next((spot for spot in spots if _room(spot) >= _CLEAR), max(spots, key=_room))
        crowd.append(chosen)
        axes.annotate(
            str(number),
            place,
            tuple(chosen - taken[number]),
            textcoords="offset points",
            fontsize=7,
            ha="center",
            va="center",
        )
