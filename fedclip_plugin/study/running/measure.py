"""From what a cell's ranks measured to its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean

import torch

from fedclip_edge.machine import cores
from fedclip_plugin.errors import DataError
from fedclip_plugin.federated.roles.task import AnswerHistory, Histories
from fedclip_plugin.machine import processor, resident_bytes
from fedclip_plugin.runs import RoundRecord, SiloRecord
from fedclip_plugin.runs.class_split_record import ClassSplitRecord
from fedclip_plugin.runs.provenance import code_revision
from fedclip_plugin.runs.silo_scores import zero_shot_mean
from fedclip_plugin.study.definition.study_rules import RESERVED
from fedclip_plugin.study.running.answer_counts import Counts, Drawn, Pictured
from fedclip_plugin.study.running.cell_result import (
    Accuracy,
    CellResult,
    ClientAccuracy,
    Costs,
    Machine,
    RoundCurve,
    SourceAccuracy,
)
from fedclip_plugin.study.running.own_answers import KeptAnswers
from fedclip_plugin.study.running.plan import Cell
from fedclip_plugin.study.running.study_messages import CellPart


@dataclass(frozen=True)
class Measured:
    """What is known of a cell when it has run.

    Attributes
    ----------
    rounds
        All of them, round 0 first.
    counts
        ``target`` and the silos' names to how many test images are of each kind.
    peak_bytes
        Highest resident memory by rank.
    drawn
        What is drawn of the target domain; None without one.
    class_split
        Of base and new classes; None where the classes are not split.
    """

    rounds: Sequence[RoundRecord]
    counts: Mapping[str, Counts]
    peak_bytes: Mapping[str, int]
    parameters: int
    drawn: Drawn | None
    class_split: ClassSplitRecord | None = None


def own_answers(cell: Cell, histories: Histories, selected: int) -> dict[str, KeptAnswers]:
    """Return what a rank answered in the selected round, which it keeps, by what it is for; empty for a worker."""
    return {name: _kept(cell, history, selected) for name, history in histories.items()}


def _kept(cell: Cell, history: AnswerHistory, selected: int) -> KeptAnswers:
    assert history.zero_shot is not None, "round 0 notes it"
    return KeptAnswers.of(
        cell.digest,
        true=history.zero_shot.true.cpu().numpy(),
        zero_shot=history.zero_shot.predicted.cpu().numpy(),
        selected=torch.stack([row.predicted for row in history.rounds[selected]]).numpy(),
        positions=history.positions,
    )


def silo_part(answers: Mapping[str, KeptAnswers]) -> CellPart:
    """Return what a silo, or a worker of a simulation, tells the server of a cell."""
    counts = next((own.counts() for own in answers.values()), None)
    return CellPart(counts, resident_bytes(peak=True))


def measured(
    cell: Cell,
    rounds: Sequence[RoundRecord],
    answers: Mapping[str, KeptAnswers],
    parts: Sequence[CellPart],
    parameters: int,
    drawn: Drawn | None,
    class_split: ClassSplitRecord | None = None,
) -> Measured:
    """Return what the server knows of a cell: its own answers, and what silos, or workers, told.

    Parameters
    ----------
    parts
        In the order of the ranks.
    """
    workers = [f"worker {rank}" for rank in range(1, len(parts) + 1)]
    names = workers if cell.recipe.simulated else list(rounds[0].silos)
    counts = {name: own.counts() for name, own in answers.items()}
    counts |= {name: part.counts for name, part in zip(names, parts, strict=True) if part.counts is not None}
    peaks = {"server": resident_bytes(peak=True)}
    peaks |= {name: part.peak_bytes for name, part in zip(names, parts, strict=True)}
    return Measured(rounds, counts, peaks, parameters, drawn, class_split)


def drawn(histories: Histories, selected: int) -> Drawn | None:
    """Return what is drawn of the target domain, on the server; None without a target."""
    history = histories.get("target")
    if history is None or history.zero_shot is None:
        return None
    true = history.zero_shot.true.cpu().numpy()
    sides = (history.zero_shot.cpu(), history.rounds[selected][0])
    zero_shot, adapter = (Pictured.of(true, side.predicted.numpy(), side.confidence.double().numpy()) for side in sides)
    return Drawn(zero_shot=zero_shot, selected=adapter)


def cell_result(cell: Cell, measured: Measured) -> CellResult:
    """Return a cell's result.

    Raises
    ------
    DataError
        When a silo has a name that results give to something else; only folders tell, so it is known this late.
    """
    rounds = measured.rounds
    first, last = rounds[0], rounds[-1]
    best = rounds[last.best_round]
    silos = list(first.silos)
    if taken := set(RESERVED) & set(silos):
        raise DataError(
            f"a study has no silo named {' or '.join(taken)}, as its results call other things so: rename it"
        )
    target = cell.target is not None
    return CellResult(
        case=cell.case,
        method=cell.recipe.fedclip_args.method,
        target=cell.target,
        seed=cell.seed,
        point=cell.point,
        settings=dict(cell.settings),
        digest=cell.digest,
        code=code_revision(),
        rounds=last.round,
        selected_round=best.round,
        validation=Accuracy(
            zero_shot=_share(zero_shot_mean(rounds, "validation")),
            selected=_share(best.validation),
            last=_share(last.validation),
        ),
        target_accuracy=Accuracy(
            zero_shot=_share(first.zero_shot_target), selected=_share(best.target), last=_share(last.target)
        )
        if target
        else None,
        sources={name: _source(first.silos[name], best.silos[name], last.silos[name]) for name in silos},
        curve=_curve(rounds),
        counts=dict(measured.counts),
        clients=_clients(first, best, last),
        class_split=measured.class_split,
        drawn=measured.drawn,
        costs=_costs(measured, silos, best.round),
        machine=_machine(),
    )


def _share(known: float | None) -> float:
    assert known is not None, "a study tests every round, and round 0 tells zero-shot CLIP's accuracies"
    return known


def _source(first: SiloRecord, best: SiloRecord, last: SiloRecord) -> SourceAccuracy:
    return SourceAccuracy(
        zero_shot=first.zero_shot["test"],
        selected=_share(best.test),
        last=_share(last.test),
        personal=last.personal.get("test"),
        images=last.images["test"],
    )


def _clients(first: RoundRecord, best: RoundRecord, last: RoundRecord) -> ClientAccuracy | None:
    if first.zero_shot_clients is None or best.clients is None or last.clients is None:
        return None
    return ClientAccuracy(zero_shot=first.zero_shot_clients, selected=best.clients, last=last.clients)


def _curve(rounds: Sequence[RoundRecord]) -> RoundCurve:
    return RoundCurve(
        round=tuple(record.round for record in rounds),
        validation=tuple(_share(record.validation) for record in rounds),
        test=tuple(_share(record.test) for record in rounds),
        target=tuple(record.target for record in rounds),
        bytes=tuple(accumulate(record.bytes_up + record.bytes_down for record in rounds)),
        seconds=tuple(accumulate(record.seconds.get("round", 0.0) for record in rounds)),
    )


def _costs(measured: Measured, silos: Sequence[str], selected: int) -> Costs:
    trained = measured.rounds[1:]
    takers = len(trained[0].answered) if trained[0].clients else len(silos)
    return Costs(
        parameters_trained=measured.parameters if any(record.solved is None for record in trained) else 0,
        parameters_sent=measured.parameters,
        bytes_up=fmean(record.bytes_up for record in trained) / takers,
        bytes_down=fmean(record.bytes_down for record in trained) / takers,
        seconds={phase: fmean(record.seconds[phase] for record in trained) for phase in trained[0].seconds},
        seconds_total=sum(record.seconds["round"] for record in trained),
        seconds_to_selected=sum(record.seconds["round"] for record in trained[:selected]),
        peak_bytes=dict(measured.peak_bytes),
    )


def _machine() -> Machine:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return Machine(cpu=processor(), cores=cores(), gpu=gpu)
