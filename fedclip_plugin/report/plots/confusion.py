"""Which class is taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedclip_plugin.report.plots.style import INK, new_figure, styled

_COUNTED, _NAMED = 12, 40
"""Most classes whose cells carry numbers; most classes whose names are written."""


@styled
def confusion_matrices(matrices: Mapping[str, npt.NDArray[np.int64]], classes: Sequence[str]) -> Figure:
    """Draw confusion matrices side by side: rows are the true classes, darker is a larger share of the row.

    Parameters
    ----------
    matrices
        Title to counts, ``[C, C]``; row true, column answered.
    """
    figure = new_figure(4.5)
    panels = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    for axes, (title, counts) in zip(panels, matrices.items(), strict=True):
        _matrix(axes, counts, classes)
        axes.set_title(title)
    panels[0].set_ylabel("true class")
    return figure


def _matrix(axes: Axes, counts: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(share, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    axes.set_anchor("N")
    axes.grid(visible=False)
    axes.set_xlabel("answer")
    if len(classes) <= _COUNTED:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if share[row, column] > 0.5 else INK
            if count:
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=7.5)
    for place in range(len(classes)) if len(classes) <= _NAMED else ():
        axes.add_patch(Rectangle((place - 0.5, place - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=0.8))
    step = -(-len(classes) // _NAMED)
    places = range(0, len(classes), step)
    axes.set_xticks(places, [classes[place] for place in places], rotation=90)
    axes.set_yticks(places, [classes[place] for place in places])
    small = min(8.0, 8.0 * 20 / max(20, len(places)))
    axes.tick_params(labelsize=small, length=0)
