"""How accuracies are spread over clients: a box with its points a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fedclip_plugin.report.plots.style import FILL, INK, SOFT, label_axis, legend_above, new_figure, styled

_HEIGHT = 0.55
_SPREAD = 0.36
"""Height of a row's points, above and below its middle."""


_MOST_POINTS = 2000
"""Clients whose points can be told apart."""


@dataclass(frozen=True)
class ClientBox:
    """One row: accuracies, fractions.

    Attributes
    ----------
    worst, lower_quartile, median, upper_quartile, best
        Among the clients.
    mean
        Over the clients, each alike.
    points
        Each client's, ``[K]``; empty where they are not drawn.
    """

    label: str
    worst: float
    lower_quartile: float
    median: float
    upper_quartile: float
    best: float
    mean: float
    points: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of(cls, label: str, points: npt.NDArray[np.float64]) -> ClientBox:
        """Return the row of these clients' accuracies, ``[K]``; points of very many are not drawn."""
        worst, lower, median, upper, best = (float(level) for level in np.quantile(points, (0, 0.25, 0.5, 0.75, 1)))
        drawn = points if len(points) <= _MOST_POINTS else points[:0]
        return cls(label, worst, lower, median, upper, best, float(points.mean()), drawn)


@styled
def client_boxes(rows: Sequence[ClientBox]) -> Figure:
    """Draw a row each: quartiles as a box, the median in it, whiskers from the worst client to the best, the mean.

    Parameters
    ----------
    rows
        At least one, the first on top.
    """
    figure = new_figure(0.9 + _HEIGHT * len(rows))
    axes = figure.subplots()
    names = {"whislo": "worst", "q1": "lower_quartile", "med": "median", "q3": "upper_quartile", "whishi": "best"}
    names["mean"] = "mean"
    axes.bxp(
        [{key: 100 * getattr(row, name) for key, name in names.items()} for row in rows],
        positions=range(len(rows)),
        orientation="horizontal",
        widths=0.5,
        showfliers=False,
        showmeans=True,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": FILL, "edgecolor": INK, "linewidth": 0.8, "alpha": 0.75},
        medianprops={"color": INK, "linewidth": 1.6},
        whiskerprops={"color": INK, "linewidth": 0.8},
        capprops={"color": INK, "linewidth": 0.8},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": INK, "markersize": 5},
    )
    for place, row in enumerate(rows):
        beside = np.linspace(-_SPREAD, _SPREAD, len(row.points))[_scattered(len(row.points))]
        axes.plot(100 * row.points, place + beside, ".", color=SOFT, markersize=3.5, alpha=0.7, mew=0, zorder=4)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("accuracy of a client in %")
    label_axis(axes, [row.label for row in rows])
    entries = {
        "quartiles and median": Patch(facecolor=FILL, edgecolor=INK, linewidth=0.8),
        "worst to best": Line2D([], [], color=INK, linewidth=0.8, marker="|"),
        "mean": Line2D([], [], color=INK, linewidth=0, marker="D", markerfacecolor="white", markersize=5),
    }
    if any(len(row.points) for row in rows):
        entries["a client"] = Line2D([], [], color=SOFT, linewidth=0, marker=".")
    legend_above(figure, entries)
    return figure


def _scattered(count: int) -> npt.NDArray[np.int64]:
    """Return an order of points that sets neighbours apart, the same at every call."""
    return np.random.default_rng(0).permutation(count)
