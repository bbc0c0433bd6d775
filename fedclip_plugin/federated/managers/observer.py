"""Who is told how a job goes."""

from __future__ import annotations

from typing import Protocol

import torch

from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.runs import RoundRecord


class Observer(Protocol):
    """Hears of a job's progress on the server's rank; silos' ranks have one that keeps quiet."""

    def say(self, text: str) -> None:
        """Take one line of text."""

    def begin(self, silos: int, start_round: int, device: torch.device) -> None:
        """Hear that ranks are up and loading begins."""

    def train(self, task: Task, parameters: int) -> None:
        """Hear that all features are there and training begins."""

    def round(self, record: RoundRecord) -> None:
        """Hear of a complete round."""
