"""How every figure looks, and its files: the same figure gives the same bytes."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import cycle, islice
from typing import Any, NamedTuple, ParamSpec

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedclip_plugin.report.plots.fonts import PLAIN, families_with, missing_letters

P = ParamSpec("P")

_OF_LETTERS = ("Glyph .* missing from", "Matplotlib currently does not support")
"""Warnings, one a letter and a place; the command says it once, by `missing_letters`."""

_WIDTH = 7.6
_COLUMNS = 3
_USUAL_LEGEND = 0.75
"""Inches of a legend that the heights of figures leave room for."""

_PASSES = 2

ZERO_SHOT = (0, (4, 2))
"""The dashes of every line that stands for zero-shot CLIP."""

INK, SOFT, FAINT, FILL = "#1d1d1f", "#6a6a70", "#d8d8dc", "#8fa6c4"
"""Text and frames; what stands back; grids; bars on which lines must be seen."""

_RC = {
    "font.family": PLAIN,
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.labelsize": 8.5,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "text.parse_math": False,  # a name may hold two dollar signs
    "svg.fonttype": "path",
    "svg.hashsalt": "fedclip",
}


class Look(NamedTuple):
    """What tells one series from another; any one of the four is enough to do so within six series."""

    color: str
    dashes: tuple[float, tuple[float, ...] | None]
    marker: str
    hatch: str


_LOOKS = (
    Look("#14375e", (0, None), "o", ""),
    Look("#c8591a", (0, (5, 1.6)), "s", "////"),
    Look("#2f8f6b", (0, (1.2, 1.2)), "^", "...."),
    Look("#8a5fb0", (0, (6, 1.5, 1.2, 1.5)), "D", "\\\\\\\\"),
    Look("#c9a227", (0, (3, 1, 1, 1, 1, 1)), "v", "xxxx"),
    Look("#7f8790", (0, (9, 2.5)), "P", "----"),
)


LOOKS = len(_LOOKS)
"""Series that can be told apart."""


def looks(count: int) -> list[Look]:
    """Return a look for each of ``count`` series; they repeat after six."""
    return list(islice(cycle(_LOOKS), count))


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in the project's style, whatever the user's own settings of matplotlib are.

    Letters that the style's font has not are drawn with fonts of the machine that have them, where there are any.

    The layout is settled here: left to itself, every save makes another pass, which may move things.
    """

    @wraps(draw)
    def _draw(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            figure = _settled(draw(*args, **kwargs))
            if (gone := missing_letters(figure)) and (families := families_with(gone)):
                with matplotlib.rc_context({"font.family": [PLAIN, *families]}):
                    figure = _settled(draw(*args, **kwargs))
            return figure

    return _draw


def _settled(figure: Figure) -> Figure:
    layout = figure.get_layout_engine()
    for _ in range(_PASSES):
        layout.execute(figure)  # type: ignore[union-attr]  # new_figure gives every figure one
    figure.set_layout_engine("none")
    return figure


def new_figure(height: float) -> Figure:
    """Return an empty figure, ``height`` in inches, that keeps its parts from overlapping."""
    return Figure(figsize=(_WIDTH, height), layout="constrained")


def legend_above(figure: Figure, entries: Mapping[str, Artist], columns: int = 4) -> None:
    """Put one legend above all panels, in as many columns as fit; ``entries`` are labels and what they stand for.

    Where it has many lines the figure grows, so that the panels keep their height.
    """
    for fewer in range(columns, 0, -1):
        legend = figure.legend(
            list(entries.values()), list(entries), loc="outside upper left", ncols=fewer, handlelength=3.2
        )
        size = legend.get_window_extent()
        if size.width <= figure.bbox.width or fewer == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + max(0.0, size.height / figure.dpi - _USUAL_LEGEND))


def labelled(axes: Axes) -> dict[str, Artist]:
    """Return what was drawn under a label."""
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def panel_grid(count: int, height: float, same_x: bool = True) -> tuple[Figure, list[Axes]]:
    """Return a figure of ``count`` panels with the same vertical axis, at most three in a row.

    Parameters
    ----------
    count
        At least one.
    height
        Of a panel, in inches.
    same_x
        Whether they share the horizontal axis too.
    """
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    figure = new_figure(0.75 + rows * height)
    grid = figure.subplots(rows, columns, sharex=same_x, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    for axes in panels[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return figure, panels[:count]


def round_axis(axes: Axes) -> None:
    """Put whole numbers only on the horizontal axis."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def label_axis(axes: Axes, labels: Sequence[str]) -> None:
    """Name the rows on the vertical axis, the first one on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_color(FAINT)


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG, text as outlines: no font is needed to show it."""
    return _saved(figure, format="svg", metadata={"Date": None, "Creator": None})


def png(figure: Figure) -> bytes:
    """Return a figure as PNG, 160 dots per inch."""
    return _saved(figure, format="png", dpi=160, metadata={"Software": None})


def _saved(figure: Figure, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, **how)
    return buffer.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    fonts = logging.getLogger("matplotlib.font_manager")  # warns where a font that has a letter is not there in bold
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), matplotlib.style.context(_RC, after_reset=True):
            for told in _OF_LETTERS:
                warnings.filterwarnings("ignore", told)
            yield
    finally:
        fonts.setLevel(level)
