"""What the server and its workers tell each other, once a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Turn:
    """The adapter after a number of rounds: to be scored where that is due, and trained from unless it is the last one.

    Attributes
    ----------
    number
        How many rounds are behind it.
    adapter
        Its parameters by name.
    train
        Whether another round follows.
    score
        Whether the adapter is scored.
    zero_shot
        Whether CLIP without an adapter is scored too.
    solutions
        Of a closed-form method: solutions to be tried on validation images, and nothing else is asked.
    total
        Of a closed-form method, in the last turn: the sums of all clients, where each solves an adapter of its own.
    chosen
        Beside it, the penalty and the mix that all clients chose.
    """

    number: int
    adapter: Mapping[str, NDArray[Any]]
    train: bool
    score: bool = False
    zero_shot: bool = False
    solutions: Mapping[str, NDArray[Any]] | None = None
    total: NDArray[np.float64] | None = None
    chosen: tuple[float, float] | None = None


@dataclass(frozen=True)
class TrainedClient:
    """One client that a worker trained.

    Attributes
    ----------
    client
        Its index.
    loss
        Mean loss of its training.
    fault
        What is wrong with its update; None when it was added.
    bytes_up
        What its update takes, as the codec writes it.
    update
        Its sample count and its update, as the codec writes it, where the server needs single updates.
    target
        How many of the target's images its own adapter labels correctly, where nothing is averaged.
    """

    client: int
    loss: float
    fault: str | None
    bytes_up: int
    update: tuple[int, Mapping[str, NDArray[Any]]] | None = None
    target: int | None = None


@dataclass(frozen=True)
class WorkerAnswer:
    """What a worker made of a turn.

    Attributes
    ----------
    predicted, zero_shot, personal
        Index of a job to the labels that the adapter, CLIP without one, or the clients' fine-tuned adapters gave.
    trained
        The clients that it trained, in their order.
    total
        The sum of their updates (:class:`~fedclip_plugin.federated.simulation.exact_sum.ExactSum`); None without one.
        Of a closed-form method that of their sums.
    trials
        How solutions did, by name as they travel.
    right
        In a round that interpolates: how many of the worker's validation images each interpolation labels rightly.
    seconds
        Wall time of ``evaluate`` and ``train``.
    """

    predicted: Mapping[int, NDArray[np.int64]]
    zero_shot: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    personal: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    trained: tuple[TrainedClient, ...] = ()
    total: NDArray[np.float64] | None = None
    trials: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    right: tuple[int, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
