"""All ranks tell the server how they are before anything is trained; a fault of one is known to all."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fedclip_plugin.data import common_classes
from fedclip_plugin.errors import FedClipError
from fedclip_plugin.federated.guard import PATIENCE, stop_job
from fedclip_plugin.federated.memory import RankMemory
from fedclip_plugin.text import told

_TAG = 7302
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Card:
    """What one rank says of itself.

    Attributes
    ----------
    name
        Silo, or ``server``.
    classes
        Class names in label order; empty for a server without a target domain.
    images
        Images it holds.
    to_encode
        How many of them are not in the feature cache.
    fingerprint
        Of its backbone.
    precision
        What it would encode in; empty when it has nothing to encode.
    recipe
        Digest of its recipe.
    memory
        What it says of its host's memory; None when that is not asked for.
    error
        What is wrong, one sentence; None when nothing is.
    """

    name: str
    classes: tuple[str, ...] = ()
    images: int = 0
    to_encode: int = 0
    fingerprint: str = ""
    precision: str = ""
    recipe: str = ""
    memory: RankMemory | None = None
    error: str | None = None


def roll_call(comm: Any, card: Card, names: Sequence[str], timeout: float) -> list[Card]:
    """Exchange cards.

    Parameters
    ----------
    comm
        MPI communicator.
    card
        This rank's.
    names
        Name of every rank, as far as known, for the complaint about a silent one.
    timeout
        Seconds that the server waits for all cards; then it ends the job and names the silent ranks. The others wait
        a little longer for the server.

    Returns
    -------
    list of Card
        In the order of the ranks; the same on every rank.

    Raises
    ------
    FedClipError
        On every rank, when any card has an error; the message lists them all.
    """
    rank, others = comm.Get_rank(), range(1, comm.Get_size())
    who = f"{card.name} (rank {rank}), before round 1"
    cards: list[Card]
    if rank == 0:
        cards = [card, *_receive(comm, others, names, timeout, who)]
        for other in others:
            comm.send(cards, dest=other, tag=_TAG)
    else:
        comm.send(card, dest=0, tag=_TAG)
        (cards,) = _receive(comm, [0], names, timeout * PATIENCE, who)
    faults: dict[str, list[str]] = {}
    for card in cards:
        if card.error:
            faults.setdefault(card.error.removeprefix(f"{card.name}: "), []).append(card.name)
    if faults:
        count = sum(len(names) for names in faults.values())
        lines = [f"{', '.join(names)}: {error}" for error, names in faults.items()]
        raise FedClipError("\n  ".join([f"{count} of {len(cards)} ranks cannot start", *lines]))
    return cards


def agree_on_classes(cards: Sequence[Card], listed: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the class list of the federation.

    Parameters
    ----------
    cards
        Every rank's.
    listed
        The recipe's class list, which rules when there is one.

    Raises
    ------
    DataError
        When there is no list and the silos' folders differ; names the silos and the classes.
    """
    return common_classes({card.name: card.classes for card in cards if card.classes}, listed)


def require_one_task(cards: Sequence[Card]) -> None:
    """Refuse a federation whose ranks hold different recipes or backbones.

    Raises
    ------
    FedClipError
        When digests or fingerprints differ; names the ranks.
    """
    for what, found in (
        ("recipes", {card.name: card.recipe for card in cards}),
        ("backbones", {card.name: card.fingerprint for card in cards}),
    ):
        if len(set(found.values())) > 1:
            values = ", ".join(f"{name}: {value[:12]}" for name, value in found.items())
            raise FedClipError(
                f"the ranks hold different {what} ({values}): they would train different things; put the same files on "
                "every host (paths, caches and time-outs may differ)"
            )


def agree_on_precision(cards: Sequence[Card]) -> str:
    """Return the precision that all ranks encode in: their common choice, ``fp32`` where they differ."""
    choices = {card.precision for card in cards if card.precision}
    return choices.pop() if len(choices) == 1 else "fp32"


def _receive(comm: Any, ranks: Iterable[int], names: Sequence[str], timeout: float, who: str) -> list[Any]:
    """Receive one object from each of ``ranks``, or end the job when one stays silent.

    The wait is a slow poll: MPI's own waiting calls would keep a core busy that another rank needs for encoding.
    """
    waiting, received = set(ranks), dict[int, Any]()
    deadline = time.monotonic() + timeout
    while waiting:
        for rank in sorted(waiting):
            if comm.Iprobe(source=rank, tag=_TAG):
                try:
                    received[rank] = comm.recv(source=rank, tag=_TAG)
                except Exception as error:  # unpickling raises whatever the bytes make it raise
                    name = names[rank] if rank < len(names) else f"rank {rank}"
                    why = told(f"{type(error).__name__}: {error}", 200)
                    stop_job(comm, who, f"{told(name)} (rank {rank}) sent bytes that are no message: {why}")
                waiting.discard(rank)
        if waiting and time.monotonic() > deadline:
            late = ", ".join(names[rank] if rank < len(names) else f"rank {rank}" for rank in sorted(waiting))
            reason = f"no sign of {late} within {timeout:.0f} s (fedclip_args.start_timeout)"
            stop_job(comm, who, f"{reason}; look at those hosts, or allow more time for loading and encoding")
        time.sleep(_POLL_SECONDS if waiting else 0)
    return [received[rank] for rank in sorted(received)]
