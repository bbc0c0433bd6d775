"""All ranks tell the server how they are before anything is trained; a fault of one is known to all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedclip_plugin.errors import DataError, FedClipError
from fedclip_plugin.federated.guard import stop_job

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
    error
        What is wrong, one sentence; None when nothing is.
    """

    name: str
    classes: tuple[str, ...] = ()
    images: int = 0
    to_encode: int = 0
    fingerprint: str = ""
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
        Seconds that the server waits for all cards; then it ends the job and names the silent ranks.

    Returns
    -------
    list of Card
        In the order of the ranks; the same on every rank.

    Raises
    ------
    FedClipError
        On every rank, when any card has an error; the message lists them all.
    """
    if comm.Get_rank() == 0:
        own = [card, *_collect(comm, names, timeout)]
    else:
        comm.send(card, dest=0, tag=_TAG)
        own = []
    cards: list[Card] = comm.bcast(own, root=0)
    errors = [f"{card.name}: {card.error}" for card in cards if card.error]
    if errors:
        raise FedClipError("\n  ".join([f"{len(errors)} of {len(cards)} ranks cannot start", *errors]))
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
    if listed:
        return listed
    lists = {card.name: card.classes for card in cards if card.classes}
    everything = sorted({name for classes in lists.values() for name in classes})
    faults = [
        f"{name} lacks {', '.join(missing)}"
        for name, classes in lists.items()
        if (missing := [label for label in everything if label not in classes])
    ]
    if faults:
        raise DataError(
            f"the silos' class folders differ: {'; '.join(faults)}. Give every silo the same class folders, or list "
            "the classes of the federation in fedclip_args.classes (a silo may then lack some)"
        )
    return tuple(everything)


def require_one_backbone(cards: Sequence[Card]) -> None:
    """Refuse a federation whose ranks hold different backbones.

    Raises
    ------
    FedClipError
        When fingerprints differ; names the ranks.
    """
    prints = {card.name: card.fingerprint[:12] for card in cards}
    if len(set(prints.values())) > 1:
        told = ", ".join(f"{name}: {value}" for name, value in prints.items())
        raise FedClipError(
            f"the ranks hold different backbones ({told}): features of one mean nothing to another; "
            "put the same files on every host"
        )


def _collect(comm: Any, names: Sequence[str], timeout: float) -> list[Card]:
    """Receive the card of every other rank, or end the job when one stays silent."""
    waiting = set(range(1, comm.Get_size()))
    cards: dict[int, Card] = {}
    deadline = time.monotonic() + timeout
    while waiting:
        for rank in sorted(waiting):
            if comm.Iprobe(source=rank, tag=_TAG):
                cards[rank] = comm.recv(source=rank, tag=_TAG)
                waiting.discard(rank)
        if waiting and time.monotonic() > deadline:
            late = ", ".join(names[rank] if rank < len(names) else f"rank {rank}" for rank in sorted(waiting))
            stop_job(
                comm,
                "server (rank 0), before round 1",
                f"no sign of {late} within {timeout:.0f} s (fedclip_args.start_timeout); "
                "look at those hosts, or allow more time for loading and encoding",
            )
        time.sleep(_POLL_SECONDS if waiting else 0)
    return [cards[rank] for rank in sorted(cards)]
