"""The page of one run."""

from __future__ import annotations

from functools import partial

import numpy as np

from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.recipe.privacy_words import privacy_words, secure_sums_words
from fedclip_plugin.report.page import Page, Section, Table, pictured, provenance
from fedclip_plugin.report.run.calibration_section import calibration_section
from fedclip_plugin.report.run.clients_section import clients_section
from fedclip_plugin.report.run.round_arrays import RoundArrays
from fedclip_plugin.report.run.run_pictures import accuracy_by_cost, accuracy_by_round, time_by_phase, training_loss
from fedclip_plugin.report.run.target_section import TITLE, answer_target, target_section
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.runs.class_split_record import ClassSplitRecord
from fedclip_plugin.runs.closing_table import (
    class_cells,
    class_note,
    silent_note,
    summary_rows,
    table_cells,
    zero_shot_warnings,
)
from fedclip_plugin.runs.silo_scores import image_counts, silo_rounds, zero_shot_mean
from fedclip_plugin.text import percent, sentence, size

_ALONE = (
    "In this run nothing was averaged: every silo has an adapter of its own, on its own machine, and there is no "
    "global one whose answers could be shown. The accuracy on the target is the mean over the silos' adapters."
)
_LEFT_OUT = {
    "late": "came too late, or not at all",
    "dropped": "were dropped as unusable",
    "outliers": "robust aggregation clipped or left out",
}
"""Field of a round's record to what was done to the updates that it names."""

_NO_ROUND = "No round is complete yet: there is only the untrained adapter."


def run_page(recipe: Recipe, folder: RunFolder) -> Page:
    """Return a run's report."""
    history, target = RoundArrays.read(folder), recipe.fedclip_args.target_domain
    method = METHODS[recipe.fedclip_args.method].title
    trained = len(history.records) > 1
    alone = recipe.fedclip_args.federation == "local"
    whose = "silos' own adapters" if alone else "global adapter"
    loss = trained and not np.isnan(history.column("train_loss")).all()
    answer = partial(answer_target, recipe, folder)
    clients = clients_section(history, folder.path / "clients", method)
    calibrated = calibration_section(folder.read_calibration(), history.selected.round, target)
    answers = Section(TITLE, notes=[_ALONE]) if alone else target_section(answer, history.selected.target)
    return Page(
        title=f"{method} on {recipe.data_args.dataset}" + (f", {target} held out" if target else ""),
        lead=f"Run {folder.path.resolve().name}: {_parties(history, recipe)}, {len(history.records) - 1} rounds, "
        f"backbone {recipe.fedclip_args.backbone}, seed {recipe.common_args.random_seed}.",
        facts=_facts(history, target),
        sections=[
            _summary(history, recipe, method),
            Section("Accuracy by round", pictures=[accuracy_by_round(history, target, whose)]),
            *([clients] if clients else []),
            pictured("Training loss", training_loss(history) if loss else None, "No silo told of a training loss."),
            pictured("Accuracy against cost", accuracy_by_cost(history, target) if trained else None, _NO_ROUND),
            pictured("Time of a round", time_by_phase(history) if trained else None, _NO_ROUND),
            *_classes(folder.read_class_split(), history.selected.round, method),
            *([calibrated] if calibrated else []),
            answers,
            _measured(history, target),
            provenance(folder.recipe, "The resolved recipe, defaults included, as the run folder keeps it."),
        ],
    )


def _parties(history: RoundArrays, recipe: Recipe) -> str:
    train = recipe.train_args
    if not recipe.simulated:
        return f"{len(history.silos)} silos"
    return f"{train.client_num_in_total:,} simulated clients, {train.client_num_per_round:,} a round"


def _facts(history: RoundArrays, target: str | None) -> list[tuple[str, str]]:
    best, first, rounds = history.selected, history.records[0], len(history.records) - 1
    facts = [("sources, zero-shot → best round", _change(zero_shot_mean(history.records, "test", best), best.test))]
    if target:
        facts.append((f"target {target}, zero-shot → best round", _change(first.zero_shot_target, best.target)))
    if rounds:
        simulated = first.clients is not None
        senders = len(best.answered) if simulated else len(history.silos)
        sent = history.bytes_so_far()[-1] / rounds / senders
        facts.append((f"sent per round and {'client' if simulated else 'silo'}, up and down", size(sent)))
        facts.append(("seconds per round, mean", f"{history.seconds_so_far()[-1] / rounds:.3f} s"))
    last = history.records[-1]
    if last.epsilon is not None and last.delta is not None:
        told = f"epsilon {last.epsilon:.3g}, delta {last.delta:g}"
        facts.append(("differential privacy of a training image, largest of a silo", told))
    return facts


def _change(before: float | None, after: float | None) -> str:
    return f"{percent(before)} → {percent(after)} %"


def _summary(history: RoundArrays, recipe: Recipe, method: str) -> Section:
    target, asked = recipe.fedclip_args.target_domain, recipe.train_args.comm_round
    done = len(history.records) - 1
    accuracies = summary_rows(history.records, method)
    head, *rows = table_cells(accuracies, target)
    first = history.records[0]
    counts = ", ".join(f"{name} {count}" for name, count in image_counts(history.records, "test").items())
    caption = f"Sources: the silos' own test splits ({counts} images)."
    if target:
        caption += f" Target: {target}, on which no silo trained ({first.images_target} images)."
    notes = [f"This run is not complete: {done} of {asked} rounds are done."] if done < asked else []
    notes += map(sentence, zero_shot_warnings(history.records))
    if note := silent_note(accuracies):
        notes.append(sentence(note))
    notes += map(sentence, filter(None, (privacy_words(recipe), secure_sums_words(recipe))))
    if gone := silo_rounds(history.records, "without"):
        notes.append(f"Left out of the job: {'; '.join(gone)}.")
    for field, told in _LEFT_OUT.items():
        if whose := silo_rounds(history.records, field):
            notes.append(f"Updates that {told}: {'; '.join(whose)}.")
    text = "The best round is the one of the highest mean accuracy on the silos' validation splits; no test decides it."
    return Section("Summary", text=[text], notes=notes, tables=[Table(head, rows, caption)])


def _classes(record: ClassSplitRecord | None, best: int, method: str) -> list[Section]:
    if record is None:
        return []
    head, *rows = class_cells(record, best, method)
    note = class_note(record)
    return [Section("Base and new classes", tables=[Table(head, rows, sentence(note))])]


def _measured(history: RoundArrays, target: str | None) -> Section:
    first = history.records[0]
    validation, test = (image_counts(history.records, part) for part in ("validation", "test"))
    splits = "; ".join(f"{name} {count} and {test[name]}" for name, count in validation.items())
    simulated = first.clients is not None
    rank, owner = ("the workers", "its clients'") if simulated else ("each silo's rank", "its own")
    sent = ["bytes", "the server's transport", "every message of a round, as it was sent and received"]
    if simulated:
        sent = ["bytes", "the tensors", "what the round's clients would send and receive; workers send sums"]
    rows = [
        ["training loss", rank, "its training split, mean over the round's batches"],
        ["validation and test accuracy", rank, f"{owner} validation and test images: {splits}"],
        *(
            [["target accuracy", "the server's rank", f"all {first.images_target} images of {target}"]]
            if target
            else []
        ),
        ["zero-shot CLIP", "the same ranks, before round 1", "the same images"],
        sent,
        [
            "seconds",
            f"the server's clock; train and evaluate by the {'workers' if simulated else 'silos'}'",
            "each round, start-up and encoding left out",
        ],
        ["answers on the target", "the machine that wrote this page", "the target's images, with adapters/best"],
    ]
    shown = [row for row in rows if target or "target" not in row[0]]
    return Section("What was measured where", tables=[Table(["measured", "where", "on what"], shown, numbers=False)])
