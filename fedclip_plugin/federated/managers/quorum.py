"""Which silos a round waits for, and until when."""

from __future__ import annotations

import time
from collections.abc import Callable

_STEP_SECONDS = 1.0
"""Whether a round is over is asked more often than this: a longer step means that this process itself stood still."""


class Quorum:
    """Says when a round is over, and which silos are behind.

    Without a grace period a round is over when every silo that trains in it has answered. With one it is over when
    every silo that was sent its adapter has answered, or ``grace`` seconds after enough of those that train have sent
    what can be used. Who has not answered then is behind, and stays so until it answers. Time in which this process
    stood still counts for nobody. Silos go by their places among those that are there.

    Parameters
    ----------
    grace
        Seconds, ``fedclip_args.round_grace``; None without.
    enough
        Answers that a round needs, ``TrainingSettings.fewest_silos``.
    clock
        Tells the time in seconds.

    Attributes
    ----------
    behind
        Silos that owe an answer to the adapter of a round that is over. They are sent nothing until they have answered.
    """

    def __init__(self, grace: float | None, enough: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace, self._enough, self._clock = grace, enough, clock
        self.behind: set[int] = set()
        self._counted: set[int] = set()  # who was sent the adapter, and whose answers count for the round
        self._others: set[int] = set()  # who was sent it besides
        self._answers = 0  # that count
        self._begun = False  # whether anybody was sent the adapter of the round
        self._enough_since: float | None = None
        self._asked: float | None = None  # when it was asked last whether the round is over
        self._away: set[int] = set()  # who was behind when the round began, or in it

    @property
    def lenient(self) -> bool:
        """Whether rounds go on without silos that are late."""
        return self._grace is not None

    @property
    def reached(self) -> bool:
        """Whether there are enough answers: nobody can hold the round up any more."""
        return self._enough_since is not None

    def sent(self, place: int, counts: bool) -> None:
        """Note that a silo was sent the adapter of the round, and whether the round needs its answer."""
        self._begun = True
        (self._counted if counts else self._others).add(place)

    def answered(self, place: int, usable: bool = True) -> None:
        """Note that a silo has answered in time, and whether what it sent can be used."""
        if place in self._counted:
            self._counted.discard(place)
            self._answers += usable
        self._others.discard(place)
        if self._answers >= self._enough and self._enough_since is None:
            self._enough_since = self._clock()

    def back(self, place: int, joins: bool) -> None:
        """Note that a silo that was behind has answered, too late, and whether it joins the round that goes on."""
        self.behind.discard(place)
        if not joins:
            self._away.add(place)

    def waiting(self) -> set[int]:
        """Return which silos have been sent the adapter of the round, and have not answered."""
        return self._counted | self._others

    def is_over(self) -> bool:
        """Return whether the round is over: it may be closed."""
        if self._grace is None:
            return not self._counted
        now = self._clock()
        stood = 0.0 if self._asked is None else now - self._asked
        self._asked = now
        if self._enough_since is not None and stood > _STEP_SECONDS:
            self._enough_since += stood
        if not self.waiting():
            return self._begun and (self._answers >= self._enough or not self.behind)
        return self._enough_since is not None and now >= self._enough_since + self._grace

    @property
    def stuck(self) -> bool:
        """Whether everybody has answered, and the round still lacks answers: it needs a silo that is behind."""
        return self._grace is not None and not self.waiting() and self._answers < self._enough and bool(self.behind)

    def close(self) -> set[int]:
        """End the round, and return which silos took no part in it, as they did not answer in time."""
        late = self._away | self.behind
        if self._grace is not None:
            self.behind |= self.waiting()
            late |= self.behind
            self._others = set()
        self._counted, self._answers, self._begun = set(), 0, False
        self._enough_since, self._away = None, set()
        return late
