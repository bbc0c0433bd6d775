"""The closing table of a run: zero-shot beside the adapter, sources and target apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fedclip_edge.terminal import align
from fedclip_plugin.runs import below_zero_shot, zero_shot_validation
from fedclip_plugin.runs.run_folder import RoundLine
from fedclip_plugin.text import percent, size

Row = tuple[str, dict[str, float], float | None]
"""Label, accuracy by silo on its test split, accuracy on the target domain."""


def summary_rows(lines: Sequence[RoundLine], title: str) -> list[Row]:
    """Return the rows of the closing table from a run's lines: zero-shot, best round, last round, own adapters.

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
    if all("personal" in silo for silo in last["silos"].values()):
        own = {name: silo["personal"]["test"] for name, silo in last["silos"].items()}
        rows.append((f"{title}, fine-tuned by each silo", own, None))
    return rows


def zero_shot_warnings(lines: Sequence[RoundLine]) -> list[str]:
    """Return a sentence for the best and for the last round, where it is below zero-shot CLIP on source validation.

    Parameters
    ----------
    lines
        As for :func:`summary_rows`.
    """
    zero_shot, last = zero_shot_validation(lines[0]), lines[-1]
    rounds = {last["best_round"]: "the best round", last["round"]: "the last round"} if last["round"] else {}
    found = [
        below_zero_shot(line["validation"], zero_shot, f"round {line['round']}, {rounds[line['round']]},")
        for line in lines
        if line["round"] in rounds
    ]
    return [sentence for sentence in found if sentence]


def format_table(rows: Sequence[Row], target: str | None) -> str:
    """Return rows as aligned text; see :func:`table_cells`."""
    return align(table_cells(rows, target))


def table_cells(rows: Sequence[Row], target: str | None) -> list[list[str]]:
    """Return rows as text, the head first, accuracies in percent.

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
            *(percent(own[name]) for name in silos),
            percent(fmean(own.values())),
            *([percent(held)] if target else []),
        ]
        for label, own, held in rows
    ]
    return [head, *body]


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
    target = "" if line["target"] is None else f"  target {percent(line['target'])}"
    parts = [
        f"round {line['round']:>{len(str(rounds))}}/{rounds}",
        f"{len(line['answered']) - len(line['dropped'])} of {silos} silos",
        "no finite loss" if line["train_loss"] is None else f"loss {line['train_loss']:.4f}",
        f"validation {percent(line['validation'])}  test {percent(line['test'])}{target}",
        f"up {size(line['bytes_up'])} down {size(line['bytes_down'])}",
        f"{line['seconds']['round']:.2f} s",
    ]
    if line["dropped"]:
        parts.append(f"dropped: {', '.join(line['dropped'])}")
    if line["best_round"] == line["round"]:
        parts.append("best")
    return "  ".join(parts)
