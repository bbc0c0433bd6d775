"""Before anything is trained all ranks tell the server how they are; each hears whether it may go on, or why not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from fedclip_plugin.data import common_classes
from fedclip_plugin.errors import DataError, FedClipError
from fedclip_plugin.federated.guard import PATIENCE, stop_job
from fedclip_plugin.federated.own_words import say
from fedclip_plugin.federated.start_messages import FAULTS, CannotStart, Card, GoOn, Present, Ready, Room
from fedclip_plugin.text import printable, told

_TAG = 7302
_POLL_SECONDS = 0.01

C = TypeVar("C", bound=Card)
V = TypeVar("V", bound=GoOn)


class Disagreement(FedClipError):
    """Ranks that hold different things.

    Attributes
    ----------
    reasons
        Rank to the sentence that is about it alone: a silo hears nothing of the others.
    """

    def __init__(self, text: str, reasons: Mapping[int, str]) -> None:
        super().__init__(text)
        self.reasons = reasons


def roll_call(
    comm: Any,
    card: C,
    names: Sequence[str],
    timeout: float,
    judge: Callable[[list[C]], Sequence[V]],
    error: Exception | None = None,
) -> V:
    """Hand in a card, and return the verdict.

    Parameters
    ----------
    comm
        MPI communicator.
    card
        This rank's; the server's own goes nowhere.
    names
        Name of every rank, as far as known; the server calls them so.
    timeout
        Seconds that the server waits for all cards; then it ends the job and names the silent ranks. The others wait
        a little longer for the server.
    judge
        On the server: from every rank's card to every rank's verdict, both in the order of the ranks.
    error
        What is wrong with this rank. A silo says the sentence itself; only its kind is on the card.

    Raises
    ------
    FedClipError
        On every rank, when a card has a fault or the server objects. The server's message lists all of it, a silo's
        is about itself.
    """
    rank, size = comm.Get_rank(), comm.Get_size()
    known = [names[number] if number < len(names) else f"rank {number}" for number in range(size)]
    who = f"{known[rank]} (rank {rank}), before round 1"
    if rank:
        if error is not None:
            say(f"fedclip: {known[rank]} (rank {rank}): {error}")
        comm.send(card, dest=0, tag=_TAG)
        (verdict,) = _receive(comm, [0], known, timeout * PATIENCE, who)
        if isinstance(verdict, CannotStart):
            reason = verdict.reason or "the server's console says why"
            raise FedClipError(f"the job cannot start: {reason}")
        return cast(V, _expected(verdict, GoOn, known[0]))
    received = _receive(comm, range(1, size), known, timeout, who)
    try:
        cards = [card, *(_expected(other, type(card), name) for other, name in zip(received, known[1:], strict=True))]
        _refuse_faults(cards, known, error)
        verdicts = judge(cards)
    except FedClipError as refusal:
        reasons = refusal.reasons if isinstance(refusal, Disagreement) else {}
        for other in range(1, size):
            comm.send(CannotStart(reasons.get(other, "")), dest=other, tag=_TAG)
        raise
    for other in range(1, size):
        comm.send(verdicts[other], dest=other, tag=_TAG)
    return verdicts[0]


def go_on(cards: Sequence[Card]) -> list[GoOn]:
    """Return verdicts that say nothing more than that nothing is wrong."""
    return [GoOn() for _ in cards]


def require_one_recipe(cards: Sequence[Present], names: Sequence[str]) -> None:
    """Refuse a federation whose ranks hold different recipes.

    Raises
    ------
    Disagreement
        Names the ranks.
    """
    _require_one("recipes", [card.recipe for card in cards], names)


def require_one_backbone(cards: Sequence[Ready]) -> None:
    """Refuse a federation whose ranks hold different backbones.

    Raises
    ------
    Disagreement
        Names the ranks.
    """
    _require_one("backbones", [card.fingerprint for card in cards], [card.name for card in cards])


def agree_on_classes(cards: Sequence[Ready], listed: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the class list of the federation.

    Parameters
    ----------
    cards
        Every rank's.
    listed
        The recipe's class list, which rules when there is one.

    Raises
    ------
    Disagreement
        When there is no list and the silos' folders differ; names the silos and the classes.
    """
    try:
        return common_classes({card.name: card.classes for card in cards if card.classes}, listed)
    except DataError as error:
        everything = sorted({label for card in cards for label in card.classes})
        missing = {
            rank: printable(", ".join(lacked))
            for rank, card in enumerate(cards)
            if card.classes and (lacked := [label for label in everything if label not in card.classes])
        }
        about = {rank: f"other silos have classes that this one lacks: {names}" for rank, names in missing.items()}
        raise Disagreement(str(error), about) from error


def agree_on_precision(cards: Sequence[Ready]) -> str:
    """Return the precision that all ranks encode in: their common choice, ``fp32`` where they differ."""
    choices = {card.precision for card in cards if card.precision}
    return choices.pop() if len(choices) == 1 else "fp32"


def _require_one(what: str, found: Sequence[str], names: Sequence[str]) -> None:
    if len(set(found)) > 1:
        told = ", ".join(f"{printable(name)}: {value[:12]}" for name, value in zip(names, found, strict=True))
        raise Disagreement(
            f"the ranks hold different {what} ({told}): they would train different things; put the same files on "
            "every host (paths, caches and time-outs may differ)",
            {
                rank: f"this rank and the server hold different {what}"
                for rank, value in enumerate(found)
                if value != found[0]
            },
        )


def _refuse_faults(cards: Sequence[Card], names: Sequence[str], own: Exception | None) -> None:
    """Raise an error that lists what is wrong with any rank: the server's own in full, the silos' by their kinds."""
    faults: dict[str, list[str]] = {}
    for rank, card in enumerate(cards):
        if card.fault:
            name = getattr(card, "name", "") or names[rank]
            told = str(own).removeprefix(f"{name}: ") if rank == 0 else _in_words(card)
            faults.setdefault(told, []).append(printable(name))
    if faults:
        count = sum(len(found) for found in faults.values())
        lines = [f"{', '.join(found)}: {told}" for told, found in faults.items()]
        raise FedClipError("\n  ".join([f"{count} of {len(cards)} ranks cannot start", *lines]))


def _in_words(card: Card) -> str:
    """Return what a silo's card says of its fault; the rest is in the silo's own words, on its own machine."""
    told = FAULTS.get(card.fault, FAULTS["FedClipError"])
    if isinstance(card, Room) and card.needed:
        told += f": up to {card.needed / 1e9:.1f} GB are needed there, and there are {card.there / 1e9:.1f} GB"
    return f"{told} ({card.fault if card.fault in FAULTS else 'unknown'}; its own line, or its log, says it in full)"


def _expected(received: Any, kind: type[Any], name: str) -> Any:
    if not isinstance(received, kind):
        raise FedClipError(f"{name} sent something that is no {kind.__name__}: do all hosts have the same version?")
    return received


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
            late = ", ".join(names[rank] for rank in sorted(waiting))
            reason = f"no sign of {late} within {timeout:.0f} s (fedclip_args.start_timeout)"
            stop_job(comm, who, f"{reason}; look at those hosts, or allow more time for loading and encoding")
        time.sleep(_POLL_SECONDS if waiting else 0)
    return [received[rank] for rank in sorted(received)]
