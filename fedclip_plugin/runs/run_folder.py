"""What a run leaves on disk, and how it is taken up again.

The server writes everything but ``personal/`` and its ranks' logs, each of which is its silo's or rank's own, on that
rank's machine; ``report/`` comes later, from ``fedclip report``.

::

    recipe.yaml             resolved, with versions, seed and code revision
    metrics.jsonl           one line a round, appended when every silo has reported on that round
    adapters/round_0012/    adapter.json + adapter.safetensors (the last k, best, final)
    adapters/best, final    links into the same folder
    state/round_0012/       what the server remembers besides: its optimiser, the residual of its codec
    personal/<silo>/        of a silo, on its own machine: adapter/ in the end, and state/round_0012/ like the server's
    logs/rank_N.log         everything that is logged, FedML's own log included, one file a rank
    tensorboard/            curves, with tracking_args.enable_tensorboard
    report/                 index.html and its pictures
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.runs.adapter_file import SavedAdapter, add_metrics, load_adapter, save_adapter
from fedclip_plugin.runs.atomic import append_line, point_to, write_file

RoundLine = dict[str, Any]


def zero_shot_validation(first: Mapping[str, Any]) -> float | None:
    """Return the mean over the silos of zero-shot CLIP's accuracy on their validation images.

    Parameters
    ----------
    first
        The line of round 0, which tells it.

    Returns
    -------
    float or None
        A fraction; None where a silo does not tell.
    """
    told = [silo.get("zero_shot", {}).get("validation") for silo in first.get("silos", {}).values()]
    return fmean(told) if told and None not in told else None


class RunFolder:
    """The folder of one run: the server writes rounds, every silo its ``personal/`` folder, every rank its log.

    Parameters
    ----------
    path
        Where the run lives, such as ``runs/miniature``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.adapters = path / "adapters"
        self.metrics = path / "metrics.jsonl"
        self.recipe = path / "recipe.yaml"
        self.state = path / "state"

    def prepare(self, recipe_text: str, digest: str, needed_bytes: int, resume: bool) -> None:
        """Make the folder ready for training and prove that it can be written.

        Parameters
        ----------
        recipe_text
            Resolved recipe with its header of versions; ends up in ``recipe.yaml``.
        digest
            Hash of what defines the result; a resumed run must have the same.
        needed_bytes
            Free disk space asked for, in bytes.
        resume
            Whether rounds that are there may be continued.

        Raises
        ------
        RunFolderError
            As :meth:`check`; or when the folder cannot be written, or the disk is too full.
        """
        lines = self.check(recipe_text, digest, resume)
        self._require_writable(needed_bytes)
        self.adapters.mkdir(exist_ok=True)
        for pattern in (".*.tmp",) if lines else (".*.tmp", "round_*"):  # left by a run that was killed
            for left in self.adapters.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)
        if not lines or self.recipe.read_text(encoding="utf-8") != recipe_text:
            write_file(self.recipe, self._with_history(recipe_text, lines).encode())
        write_file(self.metrics, "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode())

    def check(self, recipe_text: str, digest: str, resume: bool) -> list[RoundLine]:
        """Return the lines of the rounds that training goes on after; empty for a fresh run. Writes nothing.

        Parameters
        ----------
        recipe_text, digest, resume
            As for :meth:`prepare`.

        Raises
        ------
        RunFolderError
            When there is something to lose and ``resume`` is off, or what is there cannot be resumed.
        """
        lines, finished = self.lines(), (self.adapters / "final").exists()
        if self.recipe.exists() and self.read_digest() is None:
            raise RunFolderError(
                f"{self.recipe} is not a run's recipe and would be overwritten: name another folder with --run"
            )
        done = lines[-1]["round"] if lines else 0
        if not resume and (done or finished):
            raise RunFolderError(
                f"{self.path} already holds a run{f' of {done} rounds' if done else ''}: add --resume to continue it, "
                "name another folder with --run, or remove it"
            )
        if not lines and finished:
            raise RunFolderError(
                f"{self.path} holds a final adapter but no metrics, as plain FedMLRunner leaves it: "
                "there is nothing to resume from; name another folder with --run"
            )
        if done and self.read_digest() != digest:
            raise RunFolderError(
                f"{self.path} was made by another recipe ({self._differences(recipe_text)}): a run is resumed with "
                "the recipe it began with, only comm_round, paths and time-outs may change; name another --run"
            )
        return lines if done else []

    def lines(self) -> list[RoundLine]:
        """Return the lines of complete rounds, oldest first; a line torn by a crash is left out.

        Raises
        ------
        RunFolderError
            When a line before the last one is not JSON.
        """
        if not self.metrics.exists():
            return []
        texts = self.metrics.read_text(encoding="utf-8").splitlines()
        lines: list[RoundLine] = []
        for number, text in enumerate(texts, 1):
            try:
                lines.append(json.loads(text))
            except ValueError as error:
                if number == len(texts):
                    break
                raise RunFolderError(f"{self.metrics}, line {number} is not JSON: {error}; restore the file") from error
        return lines

    def read_digest(self) -> str | None:
        """Return the recipe digest noted in ``recipe.yaml``'s header, None when there is none."""
        if not self.recipe.exists():
            return None
        for line in self.recipe.read_text(encoding="utf-8").splitlines():
            if line.startswith("# digest: "):
                return line.removeprefix("# digest: ").strip()
        return None

    def round_folder(self, number: int) -> Path:
        """Return the folder of the adapter after round ``number``."""
        return self.adapters / f"round_{number:04d}"

    def save_round(self, adapter: SavedAdapter) -> None:
        """Write the adapter of one round; see :func:`save_adapter` for errors."""
        save_adapter(self.round_folder(adapter.round), adapter)

    def personal(self, silo: str) -> Path:
        """Return the folder of what is a silo's alone."""
        return self.path / "personal" / silo

    def save_personal(self, silo: str, adapter: SavedAdapter) -> None:
        """Write a silo's own adapter, on the silo's machine; see :func:`save_adapter` for errors."""
        place = self.personal(silo)
        place.mkdir(parents=True, exist_ok=True)
        save_adapter(place / "adapter", adapter)

    def load_round(self, number: int) -> SavedAdapter:
        """Read the adapter of round ``number``; see :func:`load_adapter` for errors."""
        return load_adapter(self.round_folder(number))

    def complete_round(self, line: Mapping[str, Any], keep: int, scores: Mapping[str, float] | None = None) -> None:
        """Append a complete round's line, move ``best`` if it is the best, and drop adapters nobody needs.

        Parameters
        ----------
        line
            The round's line; has ``round`` and ``best_round``.
        keep
            How many of the newest adapters stay besides ``best`` and ``final``.
        scores
            What the silos measured of the round's adapter; ``best`` and ``final`` carry it.

        Raises
        ------
        OSError
            When the disk is full.
        """
        # The line last: a run that is killed in between is resumed before this round and repeats all of it.
        own, final = self.round_folder(line["round"]), self.adapters / "final"
        if scores and own.exists() and (line["best_round"] == line["round"] or final.resolve() == own.resolve()):
            add_metrics(own, scores)
        if self.round_folder(line["best_round"]).exists():
            point_to(self.adapters / "best", self.round_folder(line["best_round"]).name)
        append_line(self.metrics, json.dumps(line, allow_nan=False))
        linked = {(self.adapters / name).resolve() for name in ("best", "final")}
        for folder in sorted(self.adapters.glob("round_*")):
            number = int(folder.name.removeprefix("round_"))
            if number <= line["round"] - keep and folder.resolve() not in linked:
                shutil.rmtree(folder)

    def tidy(self, keep_linked: bool) -> None:
        """Remove what only resuming needs from a finished run, and its adapters but the last ones, or all.

        Parameters
        ----------
        keep_linked
            Keep ``best``, ``final`` and the silos' own adapters.
        """
        personal = self.path.glob("personal/*/state") if keep_linked else (self.path / "personal",)
        for left in (self.state, *personal):
            shutil.rmtree(left, ignore_errors=True)
        names = ("best", "final")
        linked = {(self.adapters / name).resolve() for name in names} if keep_linked else set()
        for folder in self.adapters.glob("round_*"):
            if folder.resolve() not in linked:
                shutil.rmtree(folder)
        for name in names:
            if not (self.adapters / name).exists():
                (self.adapters / name).unlink(missing_ok=True)

    def mark_final(self, number: int) -> None:
        """Let ``adapters/final`` point to round ``number``."""
        point_to(self.adapters / "final", self.round_folder(number).name)

    def last_complete(self) -> RoundLine | None:
        """Return the newest line whose adapter is on disk and intact, None when there is none.

        Raises
        ------
        AdapterFileError
            When that adapter is truncated or altered.
        """
        lines = self.lines()
        if not lines:
            return None
        self.load_round(lines[-1]["round"])
        return lines[-1]

    def _differences(self, recipe_text: str) -> str:
        """Return which keys of the recipe differ from the ones on disk, as text."""
        before, now = (
            [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
            for text in (self.recipe.read_text(encoding="utf-8"), recipe_text)
        )
        was, new = [line for line in before if line not in now], [line for line in now if line not in before]
        return f"there {', '.join(was) or 'nothing more'}; here {', '.join(new) or 'nothing more'}"

    def _with_history(self, recipe_text: str, lines: list[RoundLine]) -> str:
        """Put what the earlier rounds were made with on top of the recipe of a run that goes on."""
        if not lines:
            return recipe_text
        earlier = [
            line if line.startswith("# until round") else f"# until round {lines[-1]['round']}: {line[2:]}"
            for line in self.recipe.read_text(encoding="utf-8").splitlines()
            if line.startswith(("# code: ", "# versions: ", "# until round"))
        ]
        return "".join(f"{line}\n" for line in earlier) + recipe_text

    def _require_writable(self, needed_bytes: int) -> None:
        probe = self.path / f".probe.{os.getpid()}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise RunFolderError(
                f"run folder {self.path} cannot be written: {error.strerror}; give a writable one with --run"
            ) from error
        free = shutil.disk_usage(self.path).free
        if free < needed_bytes:
            raise RunFolderError(
                f"run folder {self.path} has {free / 1e6:.0f} MB free and the run needs {needed_bytes / 1e6:.0f} MB: "
                "free some space, keep fewer rounds (fedclip_args.keep_rounds), or name another --run"
            )
