"""Rounds as a server would have recorded them."""

from fedclip_plugin.runs import ClientScores, RoundRecord


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


def client_scores(mean):
    """Return how three clients fare, ``mean`` on average."""
    levels = {"worst": -0.2, "lower_quartile": -0.1, "median": 0, "upper_quartile": 0.1, "best": 0.2}
    found = {name: mean + step for name, step in levels.items()}
    alike = dict.fromkeys(("mean", "weighted", "balanced_accuracy", "macro_f1"), mean)
    return ClientScores(clients=3, images=30, std=0.15, **found, **alike)


def write_rounds(metrics, *best, silos=("north",)):
    """Write a run's rounds to ``metrics``, given the best one of each."""
    alike = dict.fromkeys(silos, round_line(0)["silos"]["north"])
    lines = [round_record(number, one, silos=alike).to_json() + "\n" for number, one in enumerate(best)]
    metrics.write_text("".join(lines), encoding="utf-8")


def round_record(number, best=0, **changes):
    """Return the same as a record."""
    return RoundRecord.model_validate(round_line(number, best, **changes))
