"""Training loss by round."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fedclip_plugin.report.plots.style import (
    INK,
    LOOKS,
    SOFT,
    labelled,
    legend_above,
    looks,
    new_figure,
    round_axis,
    styled,
)


@styled
def loss_curves(
    rounds: npt.NDArray[np.int64], silos: Mapping[str, npt.NDArray[np.float64]], mean: npt.NDArray[np.float64]
) -> Figure:
    """Draw each silo's loss and their mean; many silos are drawn alike.

    Parameters
    ----------
    rounds
        ``[R]``.
    silos
        Loss by silo, ``[R]`` each; NaN where a silo did not train.
    mean
        Mean over the silos that trained, ``[R]``.
    """
    figure = new_figure(2.9)
    axes = figure.subplots()
    few = len(silos) <= LOOKS
    for look, (name, loss) in zip(looks(len(silos)), silos.items(), strict=True):
        known = ~np.isnan(loss)
        how = (look.color, look.dashes, 1.1, name) if few else (SOFT, (0, None), 0.6, "each silo")
        color, dashes, width, label = how
        axes.plot(rounds[known], loss[known], color=color, linestyle=dashes, linewidth=width, label=label)
    known = ~np.isnan(mean)
    axes.plot(rounds[known], mean[known], color=INK, linewidth=2.4, label="mean")
    round_axis(axes)
    axes.set_xlabel("round")
    axes.set_ylabel("training loss")
    legend_above(figure, labelled(axes), columns=6)
    return figure
