"""Rounds as a server would have recorded them."""

from fedclip_plugin.runs import RoundRecord


def round_line(number, best=0, **changes):
    """Return a line of ``metrics.jsonl``, before it is written, of one silo unless ``changes`` say otherwise."""
    silo = {"train_loss": None, "validation": 0.5, "test": 0.5, "images": {"validation": 10, "test": 10}}
    return {
        "round": number,
        "silos": {"north": silo},
        "train_loss": None,
        "validation": 0.5,
        "test": 0.5,
        "answered": [],
        "dropped": {},
        "bytes_up": 0,
        "bytes_down": 0,
        "seconds": {},
        "target": None,
        "best_round": best,
    } | changes


def write_rounds(metrics, *best):
    """Write a run's rounds to ``metrics``, given the best one of each."""
    lines = [round_record(number, one).to_json() + "\n" for number, one in enumerate(best)]
    metrics.write_text("".join(lines), encoding="utf-8")


def round_record(number, best=0, **changes):
    """Return the same as a record."""
    return RoundRecord.model_validate(round_line(number, best, **changes))
