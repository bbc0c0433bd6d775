"""A run's rounds as pictures, each with its words."""

from __future__ import annotations

import numpy as np

from fedclip_plugin.report.page import Picture
from fedclip_plugin.report.plots.costs import Series, cost_curves
from fedclip_plugin.report.plots.loss import loss_curves
from fedclip_plugin.report.plots.panels import AccuracyCurve, accuracy_panels
from fedclip_plugin.report.plots.phases import phase_stack
from fedclip_plugin.report.run.round_arrays import RoundArrays
from fedclip_plugin.runs.silo_scores import zero_shot_mean, zero_shot_scores


def accuracy_by_round(history: RoundArrays, target: str | None, whose: str) -> Picture:
    """Draw the accuracy on each silo's test split, on the mean validation split, and on the target."""
    first, selected = history.records[0], history.selected.round
    zero_shot = zero_shot_scores(history.records, "test")
    curves = [
        AccuracyCurve(name, history.rounds, history.silo(name, "test"), zero_shot.get(name), selected)
        for name in history.silos
    ]
    mean = history.column("validation")
    together = zero_shot_mean(history.records, "validation")
    curves.append(AccuracyCurve("mean source validation", history.rounds, mean, together, selected))
    if target:
        held_out = history.column("target")
        curves.append(AccuracyCurve(f"target: {target}", history.rounds, held_out, first.zero_shot_target, selected))
    return Picture(
        "accuracy_by_round",
        accuracy_panels(curves, whose),
        f"One panel a domain: accuracy of the {whose} over {history.rounds[-1]} rounds beside zero-shot CLIP's.",
        "Where the curve runs above the dashed line, the adapter is better than CLIP without one. A panel named after "
        "a source domain shows that silo's own test split; the circle marks the round of the highest mean source "
        "validation. All panels have the same axes.",
    )


def training_loss(history: RoundArrays) -> Picture:
    """Draw each silo's loss and their mean, from round 1."""
    losses = {name: history.silo(name, "train_loss")[1:] for name in history.silos}
    return Picture(
        "loss_by_round",
        loss_curves(history.rounds[1:], losses, history.column("train_loss")[1:]),
        "Training loss of each silo and their mean by round.",
        "Each silo's mean loss over its batches of the round, each computed as training meets it. A mean that still "
        "falls while the validation accuracy above does not rise tells that more rounds would not help.",
    )


def accuracy_by_cost(history: RoundArrays, target: str | None) -> Picture:
    """Draw accuracy against the bytes and the seconds spent so far."""
    test = zero_shot_mean(history.records, "test")
    series = [Series("sources, mean of the test splits", history.column("test"), test)]
    if target:
        series.append(Series(f"target: {target}", history.column("target"), history.records[0].zero_shot_target))
    return Picture(
        "accuracy_by_cost",
        cost_curves(history.bytes_so_far(), history.seconds_so_far(), series),
        "Accuracy on sources and target against bytes sent and seconds spent, both logarithmic.",
        "What an accuracy cost. Bytes are those of all messages of the rounds as they were sent; seconds are the wall "
        "time of the rounds, without start-up and without encoding the images once.",
    )


def time_by_phase(history: RoundArrays) -> Picture:
    """Draw where the time of the rounds went."""
    phases = {name: history.phase(name)[1:] for name in history.phases()}
    total, median = history.seconds_so_far()[-1], np.median(history.phase("round")[1:])
    return Picture(
        "time_by_phase",
        phase_stack(history.rounds[1:], phases),
        "Seconds of each round by phase, stacked, and the mean of each phase.",
        f"All rounds took {total:.2f} s, the median round {1000 * median:.0f} ms. train and evaluate are those of the "
        "slowest silo; exchange is what is left of the round's wall time: messages, and waiting for them.",
    )
