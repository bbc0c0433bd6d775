"""Before anything is trained all ranks tell the server how they are; each hears whether it may go on, or why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from fedclip_edge.terminal import printable
from fedclip_plugin.data import common_classes
from fedclip_plugin.errors import DataError, FedClipError
from fedclip_plugin.federated.messages.exchange import Exchange, Layouts
from fedclip_plugin.federated.rank_output import say
from fedclip_plugin.federated.startup.start_messages import (
    FAULTS,
    CannotStart,
    GoOn,
    Present,
    RankStatus,
    Ready,
    Room,
)

C = TypeVar("C", bound=RankStatus)
V = TypeVar("V", bound=GoOn)


class Disagreement(FedClipError):
    """Ranks that hold different things; by rank the sentence that is about it alone: a silo hears nothing of others."""

    def __init__(self, text: str, reasons: Mapping[int, str]) -> None:
        super().__init__(text)
        self.reasons = reasons


class StatusExchange(NamedTuple):
    """What a rank hands in at one point of the start, and how the server judges all of it.

    Attributes
    ----------
    card, judge, fault, verdict
        As for :func:`exchange_status`, where the third is called ``error``.
    """

    card: RankStatus
    judge: Callable[[list[Any]], Sequence[GoOn]]
    fault: Exception | None
    verdict: type[GoOn] = GoOn


def exchange_here(asked: Sequence[StatusExchange]) -> Sequence[GoOn]:
    """Return the verdicts on the cards of all ranks of one process, in the order of the ranks.

    Raises
    ------
    FedClipError
        The fault of a rank, a list where there are several, or what the server has against the cards.
    """
    faults = [exchange.fault for exchange in asked if exchange.fault is not None]
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise FedClipError("\n  ".join([f"{len(faults)} of {len(asked)} ranks cannot start", *map(str, faults)]))
    return asked[0].judge([exchange.card for exchange in asked])


def exchange_status(
    comm: Any,
    card: C,
    names: Sequence[str],
    timeout: float,
    judge: Callable[[list[C]], Sequence[V]],
    error: Exception | None,
    verdict: type[V],
    layouts: Layouts | None = None,
) -> V:
    """Hand in a card, and return the verdict.

    Parameters
    ----------
    timeout
        Seconds that the server waits for all cards; then it ends the job and names the silent ranks. The others wait
        a little longer for the server.
    judge
        On the server: from every rank's card to every rank's verdict, both in the order of the ranks.
    error
        What is wrong with this rank. A silo says the sentence itself; only its kind is on the card.
    verdict
        What the server says when nothing is wrong.
    layouts
        The arrays that cards and verdicts have, where they have any.

    Raises
    ------
    FedClipError
        On every rank, when a card has a fault or the server objects. The server's message lists all of it, a silo's
        is about itself.
    """
    rank, size = comm.Get_rank(), comm.Get_size()
    known = [names[number] if number < len(names) else f"rank {number}" for number in range(size)]
    exchange = Exchange(comm, known, timeout, "before round 1", layouts=layouts)
    if rank:
        if error is not None:
            say(f"fedclip: {printable(known[rank])} (rank {rank}): {error}")
        exchange.to_server(card)
        heard = exchange.from_server(verdict, CannotStart)
        if isinstance(heard, CannotStart):
            reason = heard.reason or "the server's console says why"
            raise FedClipError(f"the job cannot start: {reason}")
        return cast(V, heard)
    try:
        cards = [card, *exchange.from_silos(type(card))]
        _refuse_faults(cards, known, error)
        verdicts = judge(cards)
    except FedClipError as refusal:
        reasons = refusal.reasons if isinstance(refusal, Disagreement) else {}
        exchange.to_silos([CannotStart(reasons.get(other, "")) for other in range(size)], last=True)
        raise
    exchange.to_silos(verdicts)
    return verdicts[0]


def go_on(cards: Sequence[RankStatus]) -> list[GoOn]:
    """Return verdicts that say nothing more than that nothing is wrong."""
    return [GoOn() for _ in cards]


def require_one_recipe(cards: Sequence[Present], names: Sequence[str]) -> None:
    """Refuse a federation whose ranks hold different recipes."""
    _require_one("recipes", [card.recipe for card in cards], names)


def require_own_names(cards: Sequence[Ready]) -> None:
    """Refuse a federation in which two ranks have one name, such as where hosts have different folders."""
    ranks: dict[str, list[int]] = {}
    for rank, card in enumerate(cards):
        ranks.setdefault(card.name, []).append(rank)
    if shared := {name: found for name, found in ranks.items() if len(found) > 1}:
        told = "; ".join(f"{printable(name)}: ranks {', '.join(map(str, found))}" for name, found in shared.items())
        raise Disagreement(
            f"several ranks have the same name ({told}): every silo needs one of its own; list them in the recipe "
            "(fedclip_args.silos), or give all hosts the same folders",
            {rank: "another rank has the name of this silo" for found in shared.values() for rank in found},
        )


def require_one_backbone(cards: Sequence[Ready]) -> None:
    """Refuse a federation whose ranks hold different backbones."""
    _require_one("backbones", [card.fingerprint for card in cards], [card.name for card in cards])


def agree_on_classes(cards: Sequence[Ready], listed: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the class list of the federation, as :func:`common_classes`; where folders differ, a Disagreement."""
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


def agree_on_precision(precisions: Iterable[str]) -> str:
    """Return the precision that all ranks encode in: their common choice, ``fp32`` where they differ."""
    choices = set(precisions) - {""}  # of ranks that encode nothing
    return choices.pop() if len(choices) == 1 else "fp32"


def _require_one(what: str, found: Sequence[str], names: Sequence[str]) -> None:
    if len(set(found)) > 1:
        told = ", ".join(f"{printable(name)}: {value[:12]}" for name, value in zip(names, found, strict=True))
        raise Disagreement(
            f"the ranks hold different {what} ({told}): they would train different things; put the same files on "
            "every host (paths, caches, start_timeout and round_timeout may differ)",
            {
                rank: f"this rank and the server hold different {what}"
                for rank, value in enumerate(found)
                if value != found[0]
            },
        )


def _refuse_faults(cards: Sequence[RankStatus], names: Sequence[str], own: Exception | None) -> None:
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


def _in_words(card: RankStatus) -> str:
    """Return what a silo's card says of its fault; the rest is in the silo's own words, on its own machine."""
    told = FAULTS.get(card.fault, FAULTS["FedClipError"])
    if isinstance(card, Room) and card.needed:
        told += f": up to {card.needed / 1e9:.1f} GB are needed there, and there are {card.there / 1e9:.1f} GB"
    return f"{told} ({card.fault if card.fault in FAULTS else 'unknown'}; its own line, or its log, says it in full)"
