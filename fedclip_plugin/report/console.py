"""A clean console: what runs, one line a round, a closing table."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from fedclip_edge.terminal import align, printable
from fedclip_plugin.federated.observer import SKIPPED
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.recipe.privacy_words import privacy_words, secure_sums_words
from fedclip_plugin.runs import RoundRecord, RunFolder
from fedclip_plugin.runs.closing_table import (
    calibration_cells,
    class_cells,
    class_note,
    client_cells,
    round_text,
    silent_note,
    summary_rows,
    table_cells,
    zero_shot_warnings,
)
from fedclip_plugin.runs.silo_scores import image_counts


class Console:
    """Prints a job's progress on stdout."""

    def __init__(self, recipe: Recipe, folder: RunFolder, on_training: Callable[[], None]) -> None:
        self._recipe, self._folder, self._on_training = recipe, folder, on_training
        self._began = time.perf_counter()
        self._skipped: list[str] = []
        self._spent: set[str] = set()

    def say(self, text: str) -> None:
        """Print one line."""
        if text.startswith(SKIPPED):
            self._skipped.append(text)
        print(printable(text), flush=True)

    def begin(self, silos: int, start_round: int, device: torch.device) -> None:
        """Print what runs where."""
        goes_on = f", continued after round {start_round}" if start_round else ""
        place = f"on {device.type}{goes_on} -> {self._folder.path}"
        if not self._recipe.simulated:
            self.say(f"FedCLIP: {silos} silo{'s' if silos > 1 else ''} and a server under FedML over MPI, {place}")
            return
        train = self._recipe.train_args
        where = "in one process" if self._recipe.comm_args.backend == "sp" else f"on {silos} workers over MPI"
        told = f"{train.client_num_in_total:,} clients, {train.client_num_per_round:,} a round"
        self.say(f"FedCLIP: {told}, simulated under FedML {where}, {place}")

    def train(self, task: Task, parameters: int) -> None:
        """Print what is trained."""
        self._on_training()
        self.say(
            f"ready after {time.perf_counter() - self._began:.1f} s; {_what(task.method, parameters)} "
            f"on {task.text.features.shape[1]}-wide features, {len(task.classes)} classes"
        )
        for words in (privacy_words(self._recipe), secure_sums_words(self._recipe)):
            if words:
                self.say(words)

    def round(self, record: RoundRecord) -> None:
        """Print a complete round; round 0 is only the starting point."""
        if record.round:
            train = self._recipe.train_args
            many = train.client_num_per_round if self._recipe.simulated else train.client_num_in_total
            self.say(round_text(record, train.comm_round, many, "clients" if self._recipe.simulated else "silos"))
            for name, silo in record.silos.items():
                if silo.spent and name not in self._spent and record.round < train.comm_round:
                    self._spent.add(name)
                    self.say(f"{name} trains no more: another round would exceed dp_target_epsilon")

    def finish(self) -> None:
        """Print the table and where the adapters are."""
        rounds = self._folder.rounds()
        if len(rounds) < 2:
            return
        asked = self._recipe.train_args.comm_round
        if rounds[-1].round < asked and any(silo.spent for silo in rounds[-1].silos.values()):
            why = "too few silos may train on (dp_target_epsilon)"
            self.say(f"the run ends after round {rounds[-1].round} of {asked}: {why}")
        images = rounds[0].images_target
        counts = ", ".join(f"{name} {count}" for name, count in image_counts(rounds, "test").items())
        self.say("")
        own = self._recipe.fedclip_args
        rows = summary_rows(rounds, METHODS[own.method].title)
        print(align(table_cells(rows, own.target_domain)), flush=True)
        self.say(
            f"sources: their test splits ({counts} images)"
            + (f"; target: never trained on ({images} images)" if images else "")
            + f"; one run, seed {self._recipe.common_args.random_seed}"
        )
        if note := silent_note(rows):
            self.say(f"note: {note}")
        if clients := client_cells(rounds, METHODS[own.method].title):
            print(f"\n{align(clients)}", flush=True)
        if split := self._folder.read_class_split():
            print(f"\n{align(class_cells(split, rounds[-1].best_round, METHODS[own.method].title))}", flush=True)
            self.say(class_note(split))
        if calibrated := calibration_cells(self._folder.read_calibration(), rounds[-1].best_round):
            print(f"\n{align(calibrated)}", flush=True)
        for sentence in (*self._skipped, *zero_shot_warnings(rounds)):
            self.say(f"note: {sentence}")
        best, final = self._folder.adapters / "best", self._folder.adapters / "final"
        self.say(f"adapter: {best} (best mean source validation), {final}")


def _what(method: str, parameters: int) -> str:
    """Say what is done with the features from here on."""
    if METHODS[method].rounds is not None:
        return f"solving {method} from sums"
    return f"training {parameters:,} parameters of {method}"
