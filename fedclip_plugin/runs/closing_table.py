"""The closing table of a run: zero-shot beside the adapter, sources and target apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from statistics import fmean

from fedclip_plugin.recipe.faults import listed
from fedclip_plugin.runs import RoundRecord, below_zero_shot
from fedclip_plugin.runs.calibration_record import CalibrationRecord
from fedclip_plugin.runs.class_split_record import ClassAccuracy, ClassSplitRecord
from fedclip_plugin.runs.silo_scores import zero_shot_mean, zero_shot_scores
from fedclip_plugin.text import percent, size

_NAMED = 5
"""Silos or clients that a line of text names."""

CLIENT_COLUMNS: dict[str, str] = {
    "mean": "mean",
    "std": "sd",
    "worst": "worst",
    "lower_quartile": "25 %",
    "median": "median",
    "upper_quartile": "75 %",
    "weighted": "by images",
    "balanced_accuracy": "balanced",
    "macro_f1": "macro F1",
}
"""Fields of :class:`~fedclip_plugin.runs.ClientScores` that tables show, and what they are called there."""

CLASS_COLUMNS = ("base", "new", "harmonic", "all")
"""Columns of tables of base and new classes (:class:`~fedclip_plugin.runs.class_split_record.ClassAccuracy`)."""

Row = tuple[str, dict[str, float], float | None]
"""Label, accuracy by silo on its test split, accuracy on the target domain."""


def last_tested(rounds: Sequence[RoundRecord]) -> RoundRecord:
    """Return the last round whose adapter was scored; round 0 always is."""
    return next(record for record in reversed(rounds) if record.test is not None)


def summary_rows(rounds: Sequence[RoundRecord], title: str) -> list[Row]:
    """Return the rows of the closing table of a run: zero-shot, best round, last round, own adapters."""
    first, best = rounds[0], rounds[rounds[-1].best_round]
    last = last_tested(rounds)
    rows: list[Row] = []
    if zero_shot := zero_shot_scores(rounds, "test"):
        rows.append(("zero-shot CLIP", zero_shot, first.zero_shot_target))
    for label, record in ((f"best round {best.round}", best), (f"last round {last.round}", last)):
        mixed = "" if record.wise is None else f" (wise {record.wise:g})"
        rows.append((f"{title}, {label}{mixed}", record.tests(), record.target))
    if any(silo.personal for silo in last.silos.values()):
        own = {name: silo.personal["test"] for name, silo in last.silos.items() if silo.personal}
        rows.append((f"{title}, each silo's own", own, None))
    return rows


def zero_shot_warnings(rounds: Sequence[RoundRecord]) -> list[str]:
    """Return a sentence for the best and for the last round, where it is below zero-shot CLIP on source validation."""
    last = rounds[-1]
    told = {last.best_round: "the best round", last.round: "the last round"} if last.round else {}
    found = (
        below_zero_shot(record.validation, zero_shot_mean(rounds, "validation", record), f"round {number}, {which},")
        for number, which in told.items()
        for record in [rounds[number]]
    )
    return [sentence for sentence in found if sentence]


def table_cells(rows: Sequence[Row], target: str | None) -> list[list[str]]:
    """Return rows as text, the head first, accuracies in percent.

    The mean over the sources is over those that every row has: :func:`silent_silos` are not among them.

    Parameters
    ----------
    target
        Name of the target domain; None leaves its column out.
    """
    silos = _in_order([list(own) for _, own, _ in rows])
    left_out = silent_silos(rows)
    known = [name for name in silos if name not in left_out]
    head = ["accuracy in %", *silos, "sources", *([f"target {target}"] if target else [])]
    body = [
        [
            label,
            *(percent(own.get(name)) for name in silos),
            percent(fmean(own[name] for name in known) if known else None),
            *([percent(held)] if target else []),
        ]
        for label, own, held in rows
    ]
    return [head, *body]


def silent_silos(rows: Sequence[Row]) -> list[str]:
    """Return the silos that a row lacks, as they did not report in time."""
    silos = _in_order([list(own) for _, own, _ in rows])
    return [name for name in silos if any(name not in own for _, own, _ in rows)]


def _in_order(known: Sequence[list[str]]) -> list[str]:
    """Return all names of several lists that each have some of them, in the one order that they share."""
    found = list(known[0])
    for names in known[1:]:
        for place, name in enumerate(names):
            if name not in found:
                after = next((other for other in names[place:] if other in found), None)
                found.insert(len(found) if after is None else found.index(after), name)
    return found


def silent_note(rows: Sequence[Row]) -> str:
    """Return a sentence on the silos that a row lacks; empty where there is none."""
    left_out = silent_silos(rows)
    if not left_out:
        return ""
    return f"not always there (-): {', '.join(left_out)}; the mean of the sources is over the other silos, in every row"


def client_cells(rounds: Sequence[RoundRecord], title: str) -> list[list[str]]:
    """Return how a simulation's clients fare, as text, the head first, accuracies in percent; empty without clients.

    Zero-shot CLIP, the best round and the last one; over the clients' own test splits.
    """
    first, best = rounds[0], rounds[rounds[-1].best_round]
    last = last_tested(rounds)
    rows = [("zero-shot CLIP", first.zero_shot_clients)]
    rows += [
        (f"{title}, {label} {own.round}", own.clients) for label, own in (("best round", best), ("last round", last))
    ]
    body = [
        [label, *(percent(getattr(own, name)) for name in CLIENT_COLUMNS)] for label, own in rows if own is not None
    ]
    return [["accuracy of clients in %", *CLIENT_COLUMNS.values()], *body] if body else []


def calibration_cells(record: CalibrationRecord | None, best: int) -> list[list[str]]:
    """Return how the adapters are calibrated, as text, the head first; empty where they are not.

    ECE is the expected calibration error in percent, before and after, and ``chance`` what it would be were the
    calibration perfect; ``unknown`` the share of answers below the threshold. Round `best` is called so.
    """
    if record is None:
        return []
    places = [name for name in ("sources", "target") if getattr(record.adapters[0], name) is not None]
    head = ["calibration", "temperature", "unknown below"]
    head += [f"{word} {name}" for name in places for word in ("ECE", "chance", "unknown")]
    body = []
    for own in record.adapters:
        row = [f"{'best' if own.round == best else 'last'} round {own.round}", f"{own.temperature:.3g}"]
        row.append(f"{own.threshold:.3g}")
        for images in (getattr(own, name) for name in places):
            before, after = (percent(side.reliability.error) for side in (images.before, images.after))
            row += [f"{before} -> {after}", percent(images.after.reliability.chance), percent(images.unknown)]
        body.append(row)
    return [head, *body]


def class_cells(record: ClassSplitRecord | None, best: int, title: str) -> list[list[str]]:
    """Return how base and new classes fare, as text, the head first, accuracies in percent; empty without a record.

    Zero-shot CLIP, the best round and the last one. Round `best` is called so.
    """
    if record is None:
        return []
    places = ["sources", *(["target"] if record.zero_shot.target else [])]
    head = ["base and new classes in %", *(f"{place} {name}" for place in places for name in CLASS_COLUMNS)]
    body = []
    for own in (record.zero_shot, *record.adapters):
        label = "zero-shot CLIP"
        if own.round is not None:
            label = f"{title}, {'best' if own.round == best else 'last'} round {own.round}"
        scores = (own.source_mean, *([own.target.accuracy] if own.target else []))
        body.append([label, *(percent(value) for each in scores for value in class_columns(each))])
    return [head, *body]


def class_note(record: ClassSplitRecord) -> str:
    """Return which classes are base and which new, and what of a run is of base classes alone, as a sentence."""
    base, new = (listed(names, _NAMED) for names in (record.base, record.new))
    return (
        f"base: {base}; new, which nothing was trained on: {new}; harmonic: the mean of base and new; all: images of "
        "all classes among all names; all other figures, and the adapter, are of the base classes"
    )


def class_columns(own: ClassAccuracy) -> tuple[float, ...]:
    """Return what :data:`CLASS_COLUMNS` are the names of."""
    return own.base, own.new, own.harmonic, own.all


def _loss(record: RoundRecord) -> list[str]:
    """Say the loss, or what was chosen where nothing was trained.

    Where no silo told a loss, say that it is not finite if that is why updates were dropped.
    """
    if record.wise is not None:
        return [f"wise {record.wise:g}"]
    if record.solved is not None:
        return [f"penalty {record.solved.penalty:g} weight {record.solved.mix:g}"]
    if record.train_loss is None:
        return ["no finite loss"] if record.dropped and record.delta is None else []
    return [f"loss {record.train_loss:.4f}"]


def round_text(record: RoundRecord, rounds: int, silos: int, noun: str = "silos") -> str:
    """Return a complete round as one line of text."""
    target = "" if record.target is None else f"  target {percent(record.target)}"
    parts = [
        f"round {record.round:>{len(str(rounds))}}/{rounds}",
        f"{len(record.answered) - len(record.dropped)} of {silos} {noun}",
        *_loss(record),
        f"validation {percent(record.validation)}  test {percent(record.test)}{target}",
        f"up {size(record.bytes_up)} down {size(record.bytes_down)}",
        f"{record.seconds['round']:.2f} s",
    ]
    if spent := [silo.epsilon for silo in record.silos.values() if silo.epsilon is not None]:
        told = dict.fromkeys(f"{bound:.3g}" for bound in (min(spent), max(spent)))
        parts.insert(3, f"epsilon {' to '.join(told)}")
    for word, named in (("late", record.late), ("dropped", record.dropped), ("outliers", record.outliers)):
        if named:
            more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            parts.append(f"{word}: {', '.join(islice(named, _NAMED))}{more}")
    if record.best_round == record.round:
        parts.append("best")
    return "  ".join(parts)
