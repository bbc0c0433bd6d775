"""What a run leaves on disk, and how it is taken up again.

The server writes everything but ``personal/`` and its ranks' logs, each of which is its silo's or rank's own, on that
rank's machine; ``report/`` comes later, from ``fedclip report``.

::

    recipe.yaml             resolved, with versions, seed and code revision
    metrics.jsonl           one line a round, appended when every silo has reported on that round
    adapters/round_0012/    adapter.json + adapter.safetensors (the last k, best, final)
    adapters/best, final    links into the same folder; copies where the file system has no links
    calibration.json        how best and final were calibrated, after the last round
    silo_policies.jsonl     one line a start, with the SHA-256 of each silo's policy, where a silo has one
    class_split.json        with fedclip_args.class_split: base_new, how they do on classes that were not trained
    state/round_0012/       what the server remembers besides: its optimiser, the residual of its codec
    state/sums/             of closed-form methods, with fedclip_args.forgettable: what each silo sent
    personal/<silo>/        of a silo, on its own machine: adapter/ in the end, state/round_0012/ like the server's, and
                            privacy.json with differential privacy: what is spent, and
                            masked_rounds.json with secure sums: which rounds, and with whom
    logs/rank_N.log         everything that is logged, FedML's own log included, one file a rank
    tensorboard/            curves, with tracking_args.enable_tensorboard
    report/                 index.html and its pictures
    .lock, .launch.lock     held by the one job that may work here, and by its launcher
    track.json              by fedclip-track, with .track.lock: which run of a tracker this is
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fedclip_edge.files import append_line, has_links, is_same, point_to, remove, sweep, write_file
from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.recipe.faults import show
from fedclip_plugin.recipe.schema.sections import defining, flat_sections
from fedclip_plugin.runs.adapter_file import SavedAdapter, add_metrics, load_adapter, save_adapter, set_calibration
from fedclip_plugin.runs.calibration_record import CalibrationRecord
from fedclip_plugin.runs.class_split_record import ClassSplitRecord
from fedclip_plugin.runs.job_folder import JobFolder
from fedclip_plugin.runs.round_record import RoundRecord
from fedclip_plugin.runs.state import Arrays, round_folders, save_state
from fedclip_plugin.runs.writing import writing

B = TypeVar("B", bound=BaseModel)


class RunFolder(JobFolder):
    """The folder of one run: the server writes rounds, every silo its ``personal/`` folder, every rank its log."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "run folder", "--run")
        self.adapters = path / "adapters"
        self.metrics = path / "metrics.jsonl"
        self.recipe = path / "recipe.yaml"
        self.state = path / "state"
        self.sums = self.state / "sums"
        self.calibration = path / "calibration.json"
        self.class_split = path / "class_split.json"
        self.policies = path / "silo_policies.jsonl"

    def has_links(self) -> bool:
        """Return whether ``best`` and ``final`` can be links here."""
        with writing(self._what):
            return has_links(self.path)

    def prepare(self, recipe_text: str, digest: str, needed_bytes: int, resume: bool) -> None:
        """Make the folder ready for training and prove that it can be written, and has ``needed_bytes`` free.

        The text is the resolved recipe with its header of versions. Errors as :meth:`check`, and a RunFolderError when
        the folder cannot be written, or the disk is too full.
        """
        records = self.check(recipe_text, digest, resume)
        self._require_room(needed_bytes)
        with writing(self._what):
            self.adapters.mkdir(parents=True, exist_ok=True)
            self._sweep(records)
            remove(self.class_split)  # of the rounds so far; it is written after the last one
            if not records or self.recipe.read_text(encoding="utf-8") != recipe_text:
                write_file(self.recipe, self._with_history(recipe_text, records).encode())
            write_file(self.metrics, "".join(f"{record.to_json()}\n" for record in records).encode())
            if records:
                self._point("best", records[-1].best_round)

    def check(self, recipe_text: str, digest: str, resume: bool) -> list[RoundRecord]:
        """Return the rounds that training goes on after; empty for a fresh run. Writes nothing.

        A resumed run must have the same ``digest``, which stands for what defines the result. A RunFolderError says
        that there is something to lose and ``resume`` is off, or that what is there cannot be resumed.
        """
        records, finished = self.rounds(), (self.adapters / "final").exists()
        if self.recipe.exists() and self.read_digest() is None:
            raise RunFolderError(
                f"{self.recipe} is not a run's recipe and would be overwritten: name another folder with --run"
            )
        done = records[-1].round if records else 0
        if not resume and (done or finished):
            raise RunFolderError(
                f"{self.path} already holds a run{f' of {done} rounds' if done else ''}: add --resume to continue it, "
                "name another folder with --run, or remove it"
            )
        if not records and finished:
            raise RunFolderError(
                f"{self.path} holds a final adapter but no metrics, as plain FedMLRunner leaves it: "
                "there is nothing to resume from; name another folder with --run"
            )
        if done and self.read_digest() != digest:
            raise RunFolderError(
                f"{self.path} was made by another recipe ({self._differences(recipe_text)}): a run is resumed with "
                "the keys that define it ('fedclip keys KEY' tells which may change); name another --run"
            )
        return records if done else []

    def require_rounds(self, records: Sequence[RoundRecord], wanted: int) -> None:
        """Refuse with a RunFolderError to go on to fewer rounds than are complete: the recipe would contradict them."""
        done = records[-1].round if records else 0
        if records and records[-1].wise is not None and done < wanted:
            raise RunFolderError(
                f"{self.path} ended with round {done}, which interpolated (fedclip_args.wise): it is not trained on "
                f"for the {wanted} rounds that are asked for; name another run folder"
            )
        if records and records[-1].privacy_over and done < wanted:
            raise RunFolderError(
                f"{self.path} ended with round {done}, in which the silos' images had no privacy left to spend "
                f"(dp_target_epsilon): it is not trained on for the {wanted} rounds that are asked for; name another "
                "run folder"
            )
        if done > wanted:
            raise RunFolderError(
                f"{self.path} has {done} rounds already, and {wanted} are asked for (comm_round; rounds in fit()): ask "
                f"for {done} or more, or name another run folder"
            )

    def rounds(self) -> list[RoundRecord]:
        """Return the complete rounds from round 0; a line torn by a crash is left out.

        Raises
        ------
        RunFolderError
            With the line, when one before the last is no JSON, or one is damaged, out of order, or of other silos than
            the first; or when the best round is missing.
        """
        if not self.metrics.exists():
            return []
        try:
            texts = self.metrics.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            told = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            raise RunFolderError(f"{self.metrics} cannot be read: {told}; restore the file") from error
        records: list[RoundRecord] = []
        for number, text in enumerate(texts):
            where = f"{self.metrics}, line {number + 1}"
            try:
                line = json.loads(text)
            except ValueError as error:
                if number == len(texts) - 1:
                    break
                raise RunFolderError(f"{where} is not JSON: {error}; restore the file") from error
            if isinstance(line, dict) and line.get("round") != number:
                raise RunFolderError(
                    f"{where} is round {line.get('round')} where round {number} belongs: two jobs wrote into this "
                    "folder, or the file was edited; restore it from a copy, or train again with another --run. "
                    f"The adapters in {self.adapters} can be used as they are"
                )
            records.append(_record(where, line))
            if list(records[-1].silos) != list(records[0].silos):
                raise RunFolderError(
                    f"{where} is of {', '.join(records[-1].silos)}; a round of {', '.join(records[0].silos)} belongs "
                    "there: restore the file"
                )
        if records and (best := records[-1].best_round) >= len(records):
            raise RunFolderError(f"{self.metrics} does not hold round {best}, the best one: restore the file")
        return records

    def read_digest(self) -> str | None:
        """Return the recipe digest noted in ``recipe.yaml``'s header, None when there is none."""
        if not self.recipe.is_file():
            return None
        for line in self.recipe.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("# digest: "):
                return line.removeprefix("# digest: ").strip()
        return None

    def round_folder(self, number: int) -> Path:
        """Return the folder of the adapter after round ``number``."""
        return self.adapters / f"round_{number:04d}"

    def save_round(self, adapter: SavedAdapter) -> None:
        """Write the adapter of one round; a RunFolderError when the disk is full, or the folder gone or read-only."""
        place = self.round_folder(adapter.round)
        with writing(place):
            save_adapter(place, adapter)

    def personal(self, silo: str) -> Path:
        """Return the folder of what is a silo's alone."""
        return self.path / "personal" / silo

    def save_personal(self, silo: str, adapter: SavedAdapter) -> None:
        """Write a silo's own adapter, on the silo's machine; errors as :meth:`save_round`."""
        place = self.personal(silo)
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
            sweep(place)
            save_adapter(place / "adapter", adapter)

    def save_sums(self, arrays: Arrays) -> None:
        """Write what each silo sent of a closed-form method; errors as :meth:`save_round`."""
        with writing(self.sums):
            self.state.mkdir(parents=True, exist_ok=True)
            save_state(self.sums, arrays)

    def load_round(self, number: int) -> SavedAdapter:
        """Read the adapter of round ``number``; see :func:`load_adapter` for errors."""
        return load_adapter(self.round_folder(number))

    def complete_round(self, record: RoundRecord, keep: int, scores: Mapping[str, float] | None = None) -> None:
        """Append a complete round, move ``best`` if it is the best, and drop adapters nobody needs.

        ``keep`` of the newest adapters stay besides ``best`` and ``final``, which carry ``scores``: what the silos
        measured of the round's adapter. ``best`` carries besides what the run has spent of differential privacy so far:
        which round is best is known from all rounds. Errors as :meth:`save_round`.
        """
        own, best = self.round_folder(record.round), record.best_round
        with writing(self._what):
            # The line last: a run that is killed in between is resumed before this round and repeats all of it.
            final = is_same(self.adapters / "final", own)
            if scores and own.exists() and (final or best == record.round):
                add_metrics(own, scores)
                if final:
                    self._point("final", record.round)
            if scores and record.privacy_spent and self.round_folder(best).exists():
                add_metrics(self.round_folder(best), record.privacy_spent)
            self._point("best", best)
            append_line(self.metrics, record.to_json())
            linked = {(self.adapters / name).resolve() for name in ("best", "final")}
            for number, folder in round_folders(self.adapters).items():
                if number <= record.round - keep and number != best and folder.resolve() not in linked:
                    shutil.rmtree(folder)

    def tidy(self, keep_linked: bool) -> None:
        """Remove what only resuming needs from a finished run, and its adapters.

        ``keep_linked`` keeps ``best``, ``final`` and the silos' own adapters.
        """
        personal = self.path.glob("personal/*/state") if keep_linked else (self.path / "personal",)
        for left in (self.state, *personal):
            shutil.rmtree(left, ignore_errors=True)
        names = ("best", "final")
        linked = {(self.adapters / name).resolve() for name in names} if keep_linked else set()
        with writing(self._what):
            for folder in round_folders(self.adapters).values():
                if folder.resolve() not in linked:
                    shutil.rmtree(folder)
            for name in names:
                if not (keep_linked and (self.adapters / name).exists()):
                    remove(self.adapters / name)

    def mark_final(self, number: int) -> None:
        """Let ``adapters/final`` point to round ``number``; errors as :meth:`save_round`."""
        with writing(self._what):
            self._point("final", number)

    def calibrate(self, record: CalibrationRecord | None) -> None:
        """Write how the best and the last adapter are calibrated into their files, and what that is worth beside them.

        All other adapters, and with None these too, are without calibration; errors as :meth:`save_round`.
        """
        known = {own.round: own.calibration for own in record.adapters} if record else {}
        last = self.rounds()[-1]
        with writing(self._what):
            for number, folder in round_folders(self.adapters).items():
                set_calibration(folder, known.get(number))
            for name, number in (("best", last.best_round), ("final", last.round)):
                self._point(name, number)
            if record is None:
                remove(self.calibration)
            else:
                write_file(self.calibration, (record.model_dump_json(indent=1) + "\n").encode())

    def read_calibration(self) -> CalibrationRecord | None:
        """Return how the adapters are calibrated, None where they are not; a RunFolderError for a damaged file."""
        return _read(self.calibration, CalibrationRecord)

    def save_class_split(self, record: ClassSplitRecord) -> None:
        """Write how the best and the last adapter do on base and on new classes; errors as :meth:`save_round`."""
        with writing(self.class_split):
            write_file(self.class_split, (record.model_dump_json(indent=1) + "\n").encode())

    def note_policies(self, done: int, policies: Mapping[str, str]) -> None:
        """Note under which policies silos start after ``done`` rounds, where one has any: SHA-256 by silo, or empty.

        Errors as :meth:`save_round`.
        """
        if any(policies.values()) or self.policies.exists():
            told = {name: digest or None for name, digest in policies.items()}
            with writing(self.policies):
                append_line(self.policies, json.dumps({"after_round": done, "policies": told}))

    def read_class_split(self) -> ClassSplitRecord | None:
        """Return what :meth:`save_class_split` wrote, None where nothing is; a RunFolderError for a damaged file."""
        return _read(self.class_split, ClassSplitRecord)

    def last_complete(self) -> RoundRecord | None:
        """Return the newest round, whose adapter is on disk and intact (see :func:`load_adapter`); None without one."""
        records = self.rounds()
        if not records:
            return None
        self.load_round(records[-1].round)
        return records[-1]

    def _differences(self, recipe_text: str) -> str:
        """Return which keys that define a run differ from the ones on disk, as text."""
        before, now = (_defining(text) for text in (self.recipe.read_text(encoding="utf-8"), recipe_text))
        told = [
            f"{key}: {show(before.get(key))} there, {show(now.get(key))} here"
            for key in dict.fromkeys([*before, *now])
            if before.get(key) != now.get(key)
        ]
        return "; ".join(told) or "by another version of the program"

    def _with_history(self, recipe_text: str, records: Sequence[RoundRecord]) -> str:
        """Put what the earlier rounds were made with on top of the recipe of a run that goes on."""
        if not records:
            return recipe_text
        earlier = [
            line if line.startswith("# until round") else f"# until round {records[-1].round}: {line[2:]}"
            for line in self.recipe.read_text(encoding="utf-8").splitlines()
            if line.startswith(("# code: ", "# versions: ", "# until round"))
        ]
        return "".join(f"{line}\n" for line in earlier) + recipe_text

    def _point(self, name: str, number: int) -> None:
        if self.round_folder(number).exists():
            point_to(self.adapters / name, self.round_folder(number).name)

    def _sweep(self, records: Sequence[RoundRecord]) -> None:
        """Remove what a killed job left: half-written files, and adapters of rounds that are trained again."""
        for folder, name in ((self.adapters, None), (self.path, self.recipe.name), (self.path, self.metrics.name)):
            sweep(folder, name)
        last = records[-1].round if records else -1
        for number, folder in round_folders(self.adapters).items():
            if number > last:
                shutil.rmtree(folder)

    def _require_room(self, needed_bytes: int) -> None:
        with writing(self._what):
            self.path.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.path).free
        if free < needed_bytes:
            raise RunFolderError(
                f"{self._what} has {free / 1e6:.0f} MB free and the run needs {needed_bytes / 1e6:.0f} MB: "
                "free some space, keep fewer rounds (fedclip_args.keep_rounds), or name another --run"
            )


def _defining(recipe_text: str) -> dict[str, Any]:
    """Return ``section.key`` to value, of a resolved recipe's keys that define the run."""
    try:
        sections = yaml.safe_load(recipe_text)
    except yaml.YAMLError:
        return {}
    return flat_sections(defining(sections)) if isinstance(sections, dict) else {}


def _record(where: str, line: object) -> RoundRecord:
    try:
        return RoundRecord.model_validate(line)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole line"
        raise RunFolderError(f"{where} is damaged ({key}: {first['msg']}): restore the file") from error


def _read(path: Path, kind: type[B]) -> B | None:
    if not path.is_file():
        return None
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise RunFolderError(f"{path} cannot be read: {reason}; restore the file") from error
