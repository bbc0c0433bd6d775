"""A measured figure, and how a topic's figures are shown and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from fedclip_edge.terminal import align


@dataclass(frozen=True)
class Figure:
    """One measured value: the median of the repeats."""

    name: str
    value: float
    unit: str  # s, ms, MB (10^6 bytes), bytes, x for a ratio, images/s, or - for a plain count
    repeats: int = 1
    at_most: float | None = None  # the goal, when there is one
    at_least: float | None = None
    note: str = ""  # what a reader has to know: extrapolated, what is left out

    def goal(self) -> str:
        """Return the goal and whether it is met, empty when there is none."""
        if self.at_most is not None:
            return f"<= {self.at_most:g} {'met' if self.value <= self.at_most else 'MISSED'}"
        if self.at_least is not None:
            return f">= {self.at_least:g} {'met' if self.value >= self.at_least else 'MISSED'}"
        return ""


def of_samples(name: str, samples: Sequence[float], unit: str, **rest: Any) -> Figure:
    """Return the median of one or more samples as a figure; ``rest`` are further fields of it."""
    return Figure(name, median(samples), unit, len(samples), **rest)


def number_text(value: float) -> str:
    """Return a number with three or four significant digits, thousands set apart."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def table(title: str, figures: Sequence[Figure]) -> str:
    """Return a topic's figures as an aligned text table under its title."""
    rows = [("what", "median", "unit", "of", "goal", "note")]
    rows += [(one.name, number_text(one.value), one.unit, str(one.repeats), one.goal(), one.note) for one in figures]
    return f"== {title}\n{align(rows, left=(0, 2, 4, 5))}"


def as_json(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return figures as plain data for ``benchmarks.json``, empty fields left out."""
    return [{key: value for key, value in asdict(figure).items() if value not in (None, "")} for figure in figures]
