"""Which grid point a case keeps: by the silos' validation splits alone, never by a test."""

from __future__ import annotations

from collections.abc import Sequence

from fedclip_plugin.study.cell_result import CellResult


def choose(results: Sequence[CellResult]) -> int:
    """Return the grid point of the highest mean source validation at its selected round.

    Parameters
    ----------
    results
        All points of one case on one target, with the study's first seed; not empty.

    Returns
    -------
    int
        The point; the first one of equals.
    """
    in_order = sorted(results, key=lambda result: result.point)
    return max(in_order, key=lambda result: result.validation.selected).point
