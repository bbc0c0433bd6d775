"""Which client has how many images of which class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedclip_plugin.report.plots.style import INK, new_figure, styled

_COUNTED, _NAMED = 300, 40
"""Most cells that carry numbers; most clients or classes that are all named."""


@styled
def partition_map(counts: npt.NDArray[np.int64], clients: Sequence[str], classes: Sequence[str]) -> Figure:
    """Draw a heat map: rows are clients, columns classes, darker is more images.

    Parameters
    ----------
    counts
        Images, ``[clients, classes]``.
    """
    figure = new_figure(1.6 + 0.16 * min(max(len(clients), 8), 60))
    axes = figure.subplots()
    shown = axes.imshow(counts, cmap="Greys", vmin=0, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    if counts.size <= _COUNTED:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if count > counts.max() / 2 else INK
            if count:
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=7)
    for axis, names in ((axes.xaxis, classes), (axes.yaxis, clients)):
        places = range(0, len(names), -(-len(names) // _NAMED))
        axis.set_ticks(places, [names[place] for place in places])
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(labelsize=7, length=0)
    axes.set_xlabel(f"{len(classes):,} classes")
    axes.set_ylabel(f"{len(clients):,} clients")
    bar = figure.colorbar(shown, ax=axes, label="images", pad=0.02)
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
