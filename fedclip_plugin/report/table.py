"""The closing table of a run: zero-shot beside the adapter, sources and target apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fedclip_plugin.runs.run_folder import RoundLine

Row = tuple[str, dict[str, float], float | None]
"""Label, accuracy by silo on its test split, accuracy on the target domain."""


def summary_rows(lines: Sequence[RoundLine], title: str) -> list[Row]:
    """Return the rows of the closing table from a run's lines: zero-shot, the best round, the last round.

    Parameters
    ----------
    lines
        All lines of ``metrics.jsonl``; the first is round 0.
    title
        The method's name.
    """
    first, last = lines[0], lines[-1]
    rows: list[Row] = []
    zero_shot = {name: silo["zero_shot"]["test"] for name, silo in first["silos"].items() if "zero_shot" in silo}
    if zero_shot:
        rows.append(("zero-shot CLIP", zero_shot, first.get("zero_shot_target")))
    best = next(line for line in lines if line["round"] == last["best_round"])
    for label, line in ((f"{title}, best round {best['round']}", best), (f"{title}, last round {last['round']}", last)):
        rows.append((label, {name: silo["test"] for name, silo in line["silos"].items()}, line["target"]))
    return rows


def format_table(rows: Sequence[Row], target: str | None) -> str:
    """Return rows as aligned text, accuracies in percent.

    Parameters
    ----------
    rows
        What :func:`summary_rows` gave.
    target
        Name of the target domain; None leaves its column out.
    """
    silos = list(rows[0][1])
    head = ["accuracy in %", *silos, "sources", *([f"target {target}"] if target else [])]
    body = [
        [
            label,
            *(_percent(own[name]) for name in silos),
            _percent(fmean(own.values())),
            *([_percent(held)] if target else []),
        ]
        for label, own, held in rows
    ]
    return align([head, *body])


def align(table: Sequence[Sequence[str]]) -> str:
    """Return a table as text: first column to the left, the others to the right, a rule under the head."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def round_text(line: Mapping[str, Any], rounds: int, silos: int) -> str:
    """Return a complete round as one line of text.

    Parameters
    ----------
    line
        A line of ``metrics.jsonl``.
    rounds
        How many rounds the recipe asks for.
    silos
        How many silos there are.
    """
    target = "" if line["target"] is None else f"  target {_percent(line['target'])}"
    parts = [
        f"round {line['round']:>{len(str(rounds))}}/{rounds}",
        f"{len(line['answered']) - len(line['dropped'])} of {silos} silos",
        "no finite loss" if line["train_loss"] is None else f"loss {line['train_loss']:.4f}",
        f"validation {_percent(line['validation'])}  test {_percent(line['test'])}{target}",
        f"up {size(line['bytes_up'])} down {size(line['bytes_down'])}",
        f"{line['seconds']['round']:.2f} s",
    ]
    if line["dropped"]:
        parts.append(f"dropped: {', '.join(line['dropped'])}")
    if line["best_round"] == line["round"]:
        parts.append("best")
    return "  ".join(parts)


def size(count: float) -> str:
    """Return a number of bytes with a unit (kB = 1000 bytes)."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.1f}"
