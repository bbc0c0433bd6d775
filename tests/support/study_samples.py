"""A results folder of a small study, made up but consistent: accuracies follow from answers, curves end in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from fedclip_plugin.data import split_60_20_20
from fedclip_plugin.study import (
    Accuracy,
    Cell,
    CellResult,
    Costs,
    Drawn,
    Machine,
    Pictured,
    Plan,
    ResultsFolder,
    RoundCurve,
    SourceAccuracy,
    StudyResults,
)
from fedclip_plugin.study.definition import load_study
from fedclip_plugin.study.running.own_answers import KeptAnswers, kinds_of
from fedclip_plugin.study.tables.accuracy_rows import wanted

DOMAINS = ["art_painting", "cartoon", "photo", "sketch"]
CLASSES = 7
IMAGES = 140
"""Per domain."""

SAMPLE = {
    "study": "sample",
    "recipe": "miniature/clip_tiny_fedclip",
    "set": {"fedclip_args.images_per_class": IMAGES // CLASSES, "train_args.comm_round": 12},
    "targets": DOMAINS,
    "seeds": [0, 1, 2],
    "cases": {
        "fedclip_paper": {
            "title": "FedCLIP (paper's settings)",
            "set": {"train_args.learning_rate": 5e-5, "train_args.weight_decay": 0.2, "train_args.comm_round": 40},
        },
        "fedclip": {
            "title": "FedCLIP",
            "grid": [{"train_args.learning_rate": 1e-3}, {"train_args.learning_rate": 3e-3}],
        },
        "clip_adapter": {
            "title": "CLIP-Adapter, no federation",
            "set": {"fedclip_args.method": "clip_adapter"},
        },
    },
}
"""Three cases; the last one answers with an adapter a silo, as ``federation: local`` does."""

GAINS = {"fedclip_paper": 0.002, "fedclip": 0.05, "clip_adapter": -0.04}
"""How much accuracy a case adds to zero-shot's, about."""

ZERO_SHOT = dict(zip(DOMAINS, (0.80, 0.76, 0.87, 0.70), strict=True))


def write_study(path: Path, **changes) -> Path:
    """Write the sample study, with some keys changed, and return its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**SAMPLE, **changes}, sort_keys=False), encoding="utf-8")
    return path


def sample_results(folder: Path, **changes) -> StudyResults:
    """Fill a results folder with every cell of the sample study.

    Parameters
    ----------
    folder
        Made when it is not there: ``study.yaml`` and ``cells/``; no run folders.
    changes
        Keys of the study that are different, such as ``seeds=[0]``.

    Returns
    -------
    StudyResults
        The study's plan and all results.
    """
    results = ResultsFolder(folder)
    study = load_study(write_study(folder.parent / f"{folder.name}_study.yaml", **changes))
    results.begin(study)
    plan, known = Plan(study), {}
    while cells := plan.todo(known):
        for cell in cells:
            known[cell.name] = sample_result(cell)
            results.save(cell, known[cell.name])
    return count(results, StudyResults(plan, known))


def count(results: ResultsFolder, findings: StudyResults) -> StudyResults:
    """Answer what the ranks of a study would be asked about the results that are there."""
    joint = {}
    for case in findings.plan.study.cases:
        own = {question: kinds_of(_known(findings.plan, question)) for question in wanted(findings, case)}
        results.save_joint(case, own)
        joint |= own
    return replace(findings, joint=joint)


def _known(plan, question):
    return [sample_answers(plan.named(name), question.part) for name in question.cells]


def sample_result(cell: Cell, gain: float | None = None) -> CellResult:
    """Make up the result of one cell.

    Parameters
    ----------
    cell
        Which one; the answers differ by it and are the same at every call.
    gain
        Accuracy that the case adds to zero-shot's; None takes the usual one.
    """
    rng = np.random.default_rng([cell.seed, cell.point, *cell.name.encode()])
    silos = [name for name in DOMAINS if name != cell.target]
    parts = [*silos, *(["target"] if cell.target else [])]
    counts = {part: sample_answers(cell, part, gain).counts() for part in parts}
    gain = _gain(cell, gain)
    rounds = cell.recipe.train_args.comm_round
    selected = 1 + int(rng.integers(rounds))
    sources = {name: SourceAccuracy(**_accuracy(counts[name]), images=counts[name].images) for name in silos}
    target = Accuracy(**_accuracy(counts["target"])) if cell.target else None
    validation = Accuracy(zero_shot=0.80, selected=0.80 + gain, last=0.80 + gain - 0.004)
    return CellResult(
        case=cell.case,
        method=cell.recipe.fedclip_args.method,
        target=cell.target,
        seed=cell.seed,
        point=cell.point,
        settings=dict(cell.settings),
        digest=cell.digest,
        code="0123456789ab",
        rounds=rounds,
        selected_round=selected,
        validation=validation,
        target_accuracy=target,
        sources=sources,
        curve=_curve(rng, rounds, selected, validation, sources, target),
        counts=counts,
        drawn=_drawn(cell, gain) if cell.target else None,
        costs=_costs(rounds, selected, silos),
        machine=Machine(cpu="sample", cores=2, gpu=None),
    )


def _gain(cell, gain):
    known = GAINS.get(cell.case, 0.0) if gain is None else gain
    return known + cell.point * (0.01 if cell.target == "sketch" else -0.02)


def sample_answers(cell: Cell, part: str, gain: float | None = None) -> KeptAnswers:
    """Make up what one rank of a cell answered: the same at every call."""
    labels, zero_shot, selected, *_ = _labels(cell, part, _gain(cell, gain))
    own = slice(None) if part == "target" else split_60_20_20(IMAGES, cell.seed).test
    positions = None if part == "target" else own
    return KeptAnswers.of(cell.digest, labels[own], zero_shot[own], selected[:, own], positions)


def _labels(cell, part, gain):
    """Label a domain's images: true and zero-shot's labels are the same in every cell; with what confidences go by."""
    domain = cell.target if part == "target" else part
    rng = np.random.default_rng([cell.seed, cell.point, *f"{cell.name}/{part}".encode()])
    fixed = np.random.default_rng([7, DOMAINS.index(domain)])
    labels = np.arange(IMAGES) % CLASSES
    hardness = fixed.random(IMAGES)
    zero_shot = np.where(hardness < ZERO_SHOT[domain], labels, (labels + 1) % CLASSES)
    noisy = hardness + rng.normal(0, 0.03, (3 if cell.case == "clip_adapter" else 1, IMAGES))
    gain = gain / 2 if part == "target" else gain
    selected = np.where(noisy < ZERO_SHOT[domain] + gain, labels, (labels + 2) % CLASSES)
    return labels, zero_shot, selected, hardness, noisy


def _drawn(cell, gain):
    labels, zero_shot, selected, hardness, noisy = _labels(cell, "target", gain)
    return Drawn(
        zero_shot=Pictured.of(labels, zero_shot, np.clip(1.1 - hardness, 0.2, 1.0)),
        selected=Pictured.of(labels, selected[0], np.clip(1.15 - noisy[0], 0.2, 1.0)),
    )


def _accuracy(counts):
    selected = counts.accuracy()
    return {"zero_shot": counts.zero_shot_accuracy(), "selected": selected, "last": selected - 0.01}


def _curve(rng, rounds, selected, validation, sources, target):
    """Rise from zero-shot to the selected round and fall to the last, passing through the accuracies of both."""

    def path(start, best, last):
        values = np.interp(range(rounds + 1), [0, selected, max(rounds, selected + 1)], [start, best, last])
        values = np.round(values + rng.normal(0, 0.003, rounds + 1), 6)
        values[[0, rounds]] = start, last
        values[selected] = best
        return tuple(values.tolist())

    def mean(column):
        return float(np.mean([getattr(source, column) for source in sources.values()]))

    a_round = 2 * 132_700 * len(sources)
    return RoundCurve(
        round=tuple(range(rounds + 1)),
        validation=path(validation.zero_shot, validation.selected, validation.last),
        test=path(mean("zero_shot"), mean("selected"), mean("last")),
        target=path(target.zero_shot, target.selected, target.last) if target else (None,) * (rounds + 1),
        bytes=tuple(a_round * number for number in range(rounds + 1)),
        seconds=tuple(round(0.04 * number, 4) for number in range(rounds + 1)),
    )


def _costs(rounds, selected, silos):
    phases = {"train": 0.02, "evaluate": 0.004, "aggregate": 0.001, "target": 0.003, "exchange": 0.012}
    return Costs(
        parameters_trained=33_024,
        parameters_sent=33_024,
        bytes_up=132_700.0,
        bytes_down=132_700.0,
        seconds={**phases, "round": round(sum(phases.values()), 5)},
        seconds_total=round(0.04 * rounds, 4),
        seconds_to_selected=round(0.04 * selected, 4),
        peak_bytes={"server": 620_000_000} | {name: 640_000_000 + number for number, name in enumerate(silos)},
    )
