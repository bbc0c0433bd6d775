"""What each silo owes the server, in order; what it sends instead, or says wrongly, ends the job by its name."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fedml.core.distributed.communication.message import Message
from fedml.cross_silo.client.message_define import MyMessage

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.messages.added_fields import REPORT, ROUND, SiloReport
from fedclip_plugin.federated.roles.task import Score
from fedclip_plugin.text import told

ONLINE, FINISHED = "ONLINE", "FINISHED"
"""What FedML's silos say when they are there, and when they leave."""

_UPDATE, _REPORT = MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER, MyMessage.MSG_TYPE_C2S_SEND_STATS_TO_SERVER
_STATUS = MyMessage.MSG_TYPE_C2S_CLIENT_STATUS
_WORDS = {_UPDATE: "an update", _REPORT: "a report", _STATUS: "the status"}
_PARTS = ("validation", "test")
_MOST_IMAGES = 2**48
_LARGEST_LOSS = 3.5e38  # above every float32
_LONGEST = 1e9  # seconds, thirty years

Rule = tuple[str, object, bool, str]
"""A field, its value, whether that is right, and what it must be."""


@dataclass(frozen=True)
class _Due:
    """A message that is owed: its type, its status if it has one, and the round that it answers to."""

    type: int
    status: str | None = None
    number: int | None = None

    def __str__(self) -> str:
        return _words(self.type, self.status) + ("" if self.number is None else f" on round {self.number}'s adapter")


class ExpectedAnswers:
    """The messages that silos owe. Each says twice that it is there (unasked, and asked), then answers every adapter.

    Parameters
    ----------
    names
        Rank to name and rank of each silo, for complaints.
    images
        Of each silo, the sizes of its splits ``train``, ``validation`` and ``test``; empty where they are not known.
    """

    ONLINE_MESSAGES = 2

    def __init__(
        self, names: Mapping[int, str], silos: Sequence[str], images: Sequence[Mapping[str, int]], rounds: int
    ) -> None:
        self._names, self._silos, self._images, self._rounds = names, tuple(silos), tuple(images), rounds
        online = [_Due(_STATUS, ONLINE)] * self.ONLINE_MESSAGES
        self._due = {rank: deque(online) for rank in range(1, len(silos) + 1)}
        self._first = dict.fromkeys(self._due, True)

    def adapter_sent(self, rank: int, number: int, train: bool) -> None:
        """Note that an adapter went to a silo: the one after ``number`` rounds, to be trained or only evaluated."""
        if number >= self._rounds:
            due = _Due(_STATUS, FINISHED, number)
        else:
            due = _Due(_UPDATE if train else _REPORT, None, number)
        self._due[rank].append(due)

    def end_after(self, rounds: int) -> None:
        """Expect the last answers after that many rounds already."""
        self._rounds = rounds

    def take(self, message: Message) -> SiloReport | None:
        """Return the report of a message that was owed; None for one without a report, before the first adapter.

        Raises
        ------
        FederationError
            When the message is not the next one that its sender owes, or its report is not about that silo and round,
            or gives figures that cannot be.
        """
        rank = message.get_sender_id()
        status = message.get(MyMessage.MSG_ARG_KEY_CLIENT_STATUS)
        found = message.get_type(), status if isinstance(status, str) else None
        due = self._due[rank].popleft() if self._due[rank] else None
        if due is None or found != (due.type, due.status):
            raise FederationError(f"{self._names[rank]} sent {_words(*found)} out of turn: {due or 'nothing'} was due")
        report = message.get(REPORT)
        for name, value, right, rule in self._rules(message, report, due, rank):
            if not right:
                raise FederationError(f"{self._names[rank]} reports {name} = {told(value)}: must be {rule}")
        if due.number is not None:
            self._first[rank] = False
        return report if due.number is not None else None

    def _rules(self, message: Message, report: Any, due: _Due, rank: int) -> Iterator[Rule]:
        """Yield what must hold, one after the other: a rule may rely on those before it."""
        if due.number is None:
            yield "something", report, report is None, "nothing before the first adapter"
            return
        if due.type == _UPDATE:
            number = message.get(ROUND)
            yield "the round of its update", number, _is(number, due.number), f"{due.number}, whose adapter it was sent"
        yield "something", report, type(report) is SiloReport, "a SiloReport"
        said: dict[str, Any] = {field.name: getattr(report, field.name, None) for field in fields(SiloReport)}
        name = self._silos[rank - 1]
        yield "silo", said["silo"], _is(said["silo"], name), told(name)
        yield "round", said["round"], _is(said["round"], due.number), f"{due.number}, whose adapter it was sent"
        sizes = self._images[rank - 1] if self._images else {}
        for part in _PARTS:
            yield from _score(part, said[part], sizes.get(part))
        counts = {part: said[part].count for part in _PARTS}
        for kind, allowed, when in (
            ("zero_shot", self._first[rank], "first report"),
            ("personal", due.number == self._rounds, "report on the last adapter"),
        ):
            scores = said[kind]
            yield kind, scores, type(scores) is dict, "scores by split"
            yield kind, scores, allowed or not scores, f"empty but in the {when}"
            wanted = kind == "zero_shot" and allowed and bool(sizes)  # tables and studies need them
            found, right = ", ".join(map(told, list(scores)[:3])), set(scores) == set(_PARTS)
            yield f"the splits of {kind}", found, right or not (scores or wanted), "validation and test"
            for part, score in scores.items():
                yield from _score(f"{kind}.{part}", score, counts[part])
        loss = said["train_loss"]
        finite = _number(loss) and abs(loss) < _LARGEST_LOSS
        diverged = type(loss) is float and not math.isfinite(loss)  # its update is dropped, the round may go on
        yield "train_loss", loss, loss is None or finite or diverged, "a float32 number or none"
        epsilon = said["epsilon"]
        yield "epsilon", epsilon, epsilon is None or (_number(epsilon) and epsilon >= 0), "a number from 0, or none"
        yield "spent", said["spent"], type(said["spent"]) is bool, "true or false"
        for time in ("train_seconds", "evaluate_seconds"):
            yield time, said[time], _number(said[time]) and 0 <= said[time] < _LONGEST, "a time in seconds, from 0"


def _score(name: str, score: Any, count: int | None) -> Iterator[Rule]:
    """Yield what holds of a score: it has ``count`` images, where that is known, and no more of them are right."""
    yield name, score, type(score) is Score, "a Score"
    correct: Any
    found: Any
    correct, found = (getattr(score, field.name, None) for field in fields(Score))
    yield f"{name}.count", found, type(found) is int and 0 <= found < _MOST_IMAGES, "a number of images"
    yield f"{name}.count", found, count is None or found == count, f"{count}, by the images of the start"
    right = type(correct) is int and 0 <= correct <= found
    yield f"{name}.correct", correct, right, f"a number of images, at most the {found} that there are"


def _words(kind: object, status: str | None) -> str:
    words = _WORDS.get(kind, f"a message of type {told(kind)}") if isinstance(kind, int) else "a message"
    return words if status is None else f"{words} {told(status, 20)}"


def _is(value: object, wanted: object) -> bool:
    return type(value) is type(wanted) and value == wanted


def _number(value: object) -> bool:
    return type(value) is float and math.isfinite(value)
