"""Who hears of a job's progress."""

from __future__ import annotations

from typing import Protocol

import torch

from fedclip_plugin.federated.roles.closed_form_round import sent_by
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.methods import Adapter, parameters_of
from fedclip_plugin.methods.create import load_saved
from fedclip_plugin.methods.registry import ZERO_SHOT
from fedclip_plugin.runs import RoundRecord, RunFolder

SKIPPED = "skipped unreadable images"
"""How a line begins that counts the images that were left out; a console says it at the end once more."""


class Observer(Protocol):
    """Hears of a job's progress on the server's rank; silos' ranks have one that keeps quiet."""

    def say(self, text: str) -> None:
        """Take one line of text."""

    def begin(self, silos: int, start_round: int, device: torch.device) -> None:
        """Hear that ranks are up and loading begins."""

    def train(self, task: Task, parameters: int) -> None:
        """Hear that all features are there and training begins, and how many numbers an update has."""

    def round(self, record: RoundRecord) -> None:
        """Hear of a complete round."""


def begin_training(task: Task, model: Adapter, folder: RunFolder, done: int, observer: Observer) -> None:
    """On the server, take up the adapter of the last complete round, if any, and tell that training begins."""
    if done:
        load_saved(model, folder.load_round(done))
    sent = sent_by(model) if task.start == ZERO_SHOT else parameters_of(model)
    observer.train(task, sum(tensor.numel() for tensor in sent.values()))
