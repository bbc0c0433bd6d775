"""How many cells a study has to run, and roughly how long that takes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from fedclip_miniature import CLASSES, DOMAINS
from fedclip_plugin.backbone import BUILT_IN, locate_backbone
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.study.tables.study_results import StudyResults
from fedclip_plugin.study.tables.titled_table import StudyTable
from fedclip_plugin.text import duration

_CELL_SECONDS = 1.0
"""What a cell takes besides its rounds."""

_IMAGE_SECONDS = {"features": 1.4e-5, "tower": 5e-5, "pixels": 8e-4}
"""Seconds a round and image of all silos, with clip-tiny on 2 cores; elsewhere no more than the order of magnitude.

``tower`` is of methods on features that keep something for the backward pass: they train through the text tower.
"""


@dataclass(frozen=True)
class CaseEstimate:
    """What a case has still to run.

    Attributes
    ----------
    cells, rounds
        How many are missing, and the rounds of each.
    seconds
        Of one cell; None where nothing is known.
    measured
        Whether cells of the same case tell it.
    """

    title: str
    cells: int
    rounds: int
    seconds: float | None
    measured: bool


def estimate(findings: StudyResults) -> list[CaseEstimate]:
    """Return what each case of a study has still to run."""
    study = findings.plan.study
    found = []
    for case, content in study.cases.items():
        own = [result.costs.seconds_total for result in findings.results.values() if result.case == case]
        wanted = (len(content.grid) + len(study.seeds) - 1) * len(study.held_out())
        recipe = findings.plan.recipe(case)
        seconds = fmean(own) + _CELL_SECONDS if own else _rough(recipe)
        rounds = recipe.train_args.comm_round
        gone = sum(name.startswith(f"{case}/") for name in findings.given_up)
        found.append(CaseEstimate(content.title, wanted - len(own) - gone, rounds, seconds, bool(own)))
    return found


def estimate_table(findings: StudyResults) -> StudyTable:
    """Return the planned cells and the estimate of the time as a table."""
    study, cases = findings.plan.study, estimate(findings)
    todo = [case for case in cases if case.cells]
    rows = [[case.title, str(case.cells), str(case.rounds), *_told(case)] for case in cases]
    missing = sum(case.cells for case in cases)
    known = [case.cells * case.seconds for case in todo if case.seconds is not None]
    more = " and more" if len(known) < len(todo) else ""
    rows.append(["all", str(missing), "", "", duration(sum(known)) + more if known or not todo else "unknown"])
    title = f"study {study.study}: {study.size()}; {findings.plan.total()} cells, {missing} to run"
    note = "rounds of recorded cells are measured; the others are guessed to the order of magnitude, encoding left out"
    return StudyTable(title, ["to run", "cells", "rounds", "a cell", "all of them"], rows, (note, *findings.left_out()))


def _told(case: CaseEstimate) -> list[str]:
    if not case.cells:
        return ["-", "-"]
    if case.seconds is None:
        return ["unknown", "unknown"]
    about = "" if case.measured else "~"
    return [about + duration(case.seconds), about + duration(case.cells * case.seconds)]


def _rough(recipe: Recipe) -> float | None:
    """Guess a cell's seconds from its images; None where the images are the user's."""
    own = recipe.fedclip_args
    if recipe.data_args.dataset != "miniature" or own.backbone != BUILT_IN:
        return None
    method, size = METHODS[own.method], read_clip_config(locate_backbone(BUILT_IN))
    through_tower = not method.on_pixels and method.activations(size, len(CLASSES), recipe.train_args.batch_size)
    kind = "tower" if through_tower else method.inputs
    images = own.images_per_class * len(CLASSES) * len(own.domains or DOMAINS)
    train = recipe.train_args
    images = images * train.client_num_per_round // train.client_num_in_total
    return _CELL_SECONDS + recipe.train_args.comm_round * recipe.train_args.epochs * images * _IMAGE_SECONDS[kind]
