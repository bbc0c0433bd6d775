"""A run's rounds as TensorBoard scalars, where the recipe asks for them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.runs.writing import writing

if TYPE_CHECKING:
    import torch
    from torch.utils.tensorboard import SummaryWriter

    from fedclip_plugin.federated.observer import Observer
    from fedclip_plugin.federated.roles.task import Task
    from fedclip_plugin.runs import RoundRecord

_INSTALL = (
    "tracking_args.enable_tensorboard is true and tensorboard is not installed: pip install "
    "'fedclip-plugin[tensorboard]', or set it to false"
)


def require_tensorboard() -> None:
    """Refuse to start without the library."""
    if importlib.util.find_spec("tensorboard") is None:
        raise FedClipError(_INSTALL)


class TensorBoard:
    """Hands on to another observer all that it hears, and writes the numbers of each round beside.

    Parameters
    ----------
    folder
        Where the event files go; made when the job begins.
    """

    def __init__(self, observer: Observer, folder: Path) -> None:
        self._observer, self._folder = observer, folder
        self._writer: SummaryWriter | None = None

    def say(self, text: str) -> None:
        """Hand on one line of text."""
        self._observer.say(text)

    def begin(self, silos: int, start_round: int, device: torch.device) -> None:
        """Open the event file and hand on."""
        from torch.utils.tensorboard import SummaryWriter

        with writing(self._folder):
            self._writer = SummaryWriter(str(self._folder))
        self._observer.begin(silos, start_round, device)

    def train(self, task: Task, parameters: int) -> None:
        """Hand on what is trained."""
        self._observer.train(task, parameters)

    def round(self, record: RoundRecord) -> None:
        """Write a round's numbers, so that a job that is killed has them too, and hand on."""
        if self._writer is not None:
            with writing(self._folder):
                for tag, value in scalars(record):
                    self._writer.add_scalar(tag, value, record.round)
                self._writer.flush()
        self._observer.round(record)


def scalars(record: RoundRecord) -> Iterator[tuple[str, float]]:
    """Yield tag and value of every number of a round: accuracies, losses, bytes, seconds."""
    found = {"validation/mean": record.validation, "test/mean": record.test, "test/target": record.target}
    found["loss/mean"] = record.train_loss
    for name, silo in record.silos.items():
        found |= {f"validation/{name}": silo.validation, f"test/{name}": silo.test, f"loss/{name}": silo.train_loss}
    found |= {"bytes/up": record.bytes_up, "bytes/down": record.bytes_down}
    found |= {f"seconds/{phase}": value for phase, value in record.seconds.items()}
    yield from ((tag, float(value)) for tag, value in found.items() if value is not None)
