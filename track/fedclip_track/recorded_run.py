"""A run folder, read by its published schema: recipe, rounds, what it was made with, and whether it is finished.

The schema of a line of ``metrics.jsonl`` is ``fedclip_plugin/runs/round_record.schema.json``; what a reader needs of it
is checked here again, so that this package imports nothing of the plugin.
"""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_LOCKS = (".lock", ".launch.lock")
_COUNTS = ("bytes_up", "bytes_down", "best_round")


class TrackError(Exception):
    """What was given, the rule, and how to fix it, on one line."""


@dataclass(frozen=True)
class Round:
    """One line of ``metrics.jsonl``: its number, and its figures by their names in a tracker."""

    number: int
    metrics: Mapping[str, float]


class RecordedRun:
    """A run folder on disk; everything is read anew when it is asked for, since the run may go on.

    Raises
    ------
    TrackError
        When ``path`` is no folder.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise TrackError(f"{path} is no folder: give the folder of a run, such as runs/NAME")
        self.path = path.resolve()
        self._recipe, self._metrics = self.path / "recipe.yaml", self.path / "metrics.jsonl"

    @property
    def has_begun(self) -> bool:
        """Whether the recipe is there, which is written before the first round."""
        return self._recipe.is_file()

    def recipe(self) -> dict[str, Any]:
        """Return the recipe's keys with their values, as ``section.key``.

        Raises
        ------
        TrackError
            When it is missing, or no recipe.
        """
        try:
            sections = yaml.safe_load(self._recipe_text())
        except yaml.YAMLError as error:
            raise TrackError(f"{self._recipe} is not YAML: {error}; restore the file") from error
        if not isinstance(sections, dict) or not all(isinstance(keys, dict) for keys in sections.values()):
            raise TrackError(f"{self._recipe} is no recipe: its sections must hold keys; restore the file")
        return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}

    def tags(self) -> dict[str, str]:
        """Return what the recipe's header says of the run: digest, seed, code revision, and versions by package.

        Raises
        ------
        TrackError
            When it has no digest, as a recipe has that is no run's.
        """
        lines = [line[2:] for line in self._recipe_text().splitlines() if line.startswith("# ")]
        said = {name: text for name, colon, text in (line.partition(": ") for line in lines) if colon}
        if "digest" not in said:
            raise TrackError(f"{self._recipe} has no '# digest:' line, as a run's has: give the folder of a run")
        tags = {"recipe_digest": said["digest"]}
        tags |= {name: said[name] for name in ("seed", "code") if name in said}
        pairs = (pair.partition(" ") for pair in said.get("versions", "").split(", ") if pair)
        return tags | {f"version.{name}": version for name, _, version in pairs}

    def rounds(self) -> list[Round]:
        """Return the rounds so far; a last line without its line break is still being written, and left out.

        Raises
        ------
        TrackError
            With the line, when one is damaged or out of order.
        """
        if not self._metrics.is_file():
            return []
        lines = self._read(self._metrics).split("\n")[:-1]
        return [_round(f"{self._metrics}, line {number + 1}", number, text) for number, text in enumerate(lines)]

    def is_finished(self, rounds: int) -> bool:
        """Return whether this many rounds are all that the recipe wants, and no job works on.

        The last adapter is saved before its line. A job that has just begun may go on with a finished run.
        """
        return rounds > 0 and rounds - 1 == self.recipe().get("train_args.comm_round") and not self.has_job()

    def has_job(self) -> bool:
        """Return whether a job works in the folder, as far as this machine knows: it holds one of two locks."""
        return any(_is_held(self.path / name) for name in _LOCKS)

    def artefacts(self) -> Iterator[tuple[Path, str]]:
        """Yield what is worth keeping besides the figures: a file or folder, and the folder it belongs to there."""
        for name in ("recipe.yaml", "metrics.jsonl"):
            yield self.path / name, ""
        for name in ("adapters/best", "adapters/final", "report"):
            if (self.path / name).is_dir():
                yield (self.path / name).resolve(), name

    def _recipe_text(self) -> str:
        if not self.has_begun:
            raise TrackError(f"{self.path} holds no recipe.yaml: give the folder of a run, such as runs/NAME")
        return self._read(self._recipe)

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            told = getattr(error, "strerror", None) or str(error)
            raise TrackError(f"{path} cannot be read: {told}; restore the file, or its rights") from error


def _round(where: str, number: int, text: str) -> Round:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrackError(f"{where} is not JSON: {error}; restore the file") from error
    if not isinstance(line, dict) or line.get("round") != number:
        told = line.get("round") if isinstance(line, dict) else "no object"
        raise TrackError(f"{where} is round {told} where round {number} belongs: restore the file")
    try:
        return Round(number, dict(_metrics(line)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrackError(f"{where} is damaged ({type(error).__name__}: {error}): restore the file") from error


def _metrics(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the figures of a line by name; the two of one kind stand together, as do those of the silos."""
    found = {f"{part}_mean": line[part] for part in ("validation", "test")}
    found |= {"loss_mean": line["train_loss"], "target": line["target"]}
    found |= {name: line[name] for name in _COUNTS}
    found |= {f"seconds/{phase}": value for phase, value in line["seconds"].items()}
    found["zero_shot_target"] = line.get("zero_shot_target")
    if not line["silos"]:
        raise ValueError("no silo")
    for name, silo in line["silos"].items():
        found |= {f"validation/{name}": silo["validation"], f"test/{name}": silo["test"]}
        found[f"loss/{name}"], found[f"epsilon/{name}"] = silo["train_loss"], silo.get("epsilon")
        for kind in ("zero_shot", "personal"):
            found |= {f"{kind}_{part}/{name}": value for part, value in silo.get(kind, {}).items()}
    for name, value in found.items():
        if value is not None:
            yield name, _number(name, value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, which must be a finite number")
    return float(value)


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # no right to read it, or a file system without locks: nothing is known
        return False
    return False
