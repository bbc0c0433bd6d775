"""A study's ear in each of its federations."""

from __future__ import annotations

import torch

from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.runs import RoundRecord


class CellObserver:
    """Keeps quiet about a federation, and notes what is wanted of it.

    Attributes
    ----------
    parameters
        How many are trained; known once training begins.
    """

    def __init__(self) -> None:
        self.parameters = 0

    def say(self, text: str) -> None:
        """Take no notice: a study says one line a cell."""

    def begin(self, silos: int, start_round: int, device: torch.device) -> None:
        """Take no notice."""

    def train(self, task: Task, parameters: int) -> None:
        """Note how many parameters are trained."""
        self.parameters = parameters

    def round(self, record: RoundRecord) -> None:
        """Take no notice: the rounds are in the cell's run folder."""
