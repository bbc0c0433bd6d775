"""Which rounds a silo has masked an update for, and with which members, on its own disk.

Two sums over different members give away their difference: of one round, and of two rounds too, as a server may send
the same adapter in both. So a silo writes down what it is about to mask before it does, and knows it after a restart,
whatever the server says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from fedclip_edge.files import write_file
from fedclip_plugin.errors import MaskingRefusedError, RunFolderError
from fedclip_plugin.runs.writing import writing
from fedclip_plugin.text import counted, told

FORMAT_VERSION = 1
MASKED_ROUNDS = "masked_rounds.json"

_ROUND = re.compile("[1-9][0-9]*", re.ASCII)


class Changed(NamedTuple):
    """How the members of a round that is masked again differ from those that it had before; both empty if not.

    Attributes
    ----------
    left
        Who was a member before and is none now.
    joined
        Who is a member now and was none before.
    """

    left: frozenset[str]
    joined: frozenset[str]


class MaskedRounds:
    """The list of a silo and a run; it only grows.

    Parameters
    ----------
    place
        Its file.
    redo
        Whether members may change: from round to round, and when a round is masked again (``on_missing: redo``).
        Otherwise those of the first round that was masked are those of all.
    """

    def __init__(self, place: Path, redo: bool) -> None:
        self._place, self._redo = place, redo
        self._groups: list[list[str]] = []
        self._rounds: dict[str, list[int]] = {}

    def begin(self, done: int) -> None:
        """Read the list, or begin one where no round is complete.

        Raises
        ------
        RunFolderError
            It is damaged, or missing after ``done`` rounds, or cannot be written.
        """
        if self._place.exists():
            self._load()
        elif done:
            raise self._unusable(f"is missing, and the run has {counted(done, 'complete round')}")
        else:
            self._save()

    def note(self, round_: int, members: Collection[str]) -> Changed:
        """Write down that the update of a round, counted from 1, is about to be masked with these members.

        Return who of the members is another one than when that round was masked before: only with ``redo`` anybody is.

        Raises
        ------
        MaskingRefusedError
            This or another round was masked with other members before, and members may not change.
        RunFolderError
            The disk refuses: then nothing may be masked.
        """
        group, places = sorted(members), self._rounds.get(str(round_), [])
        if not self._redo:
            self._require_the_same(round_, group)
        if group not in self._groups:
            self._groups.append(group)
        number = self._groups.index(group)
        if number not in places:
            self._rounds[str(round_)] = [*places, number]
            self._save()
        earlier = [frozenset(self._groups[place]) for place in places] or [frozenset(group)]
        now = frozenset(group)
        return Changed(frozenset.union(*earlier) - now, now - frozenset.intersection(*earlier))

    def _require_the_same(self, round_: int, group: list[str]) -> None:
        """Refuse members other than those of any round that was masked before, this one first of all."""
        for known in (str(round_), *sorted(self._rounds, key=int, reverse=True)):
            for place in self._rounds.get(known, []):
                if (before := self._groups[place]) != group:
                    raise MaskingRefusedError(
                        f"round {known} was masked with {_names(before)} before, and round {round_} is now to be "
                        f"masked with {_names(group)}: the two sums together would tell what those in one of them "
                        "alone have sent (on_missing: abort); resume with all silos of before, or begin a new run "
                        "with another --run, or, only where the server is trusted, one with "
                        "fedclip_args.on_missing: redo"
                    )

    def _save(self) -> None:
        with writing(self._place):
            self._place.parent.mkdir(parents=True, exist_ok=True)
            found = {"format_version": FORMAT_VERSION, "groups": self._groups, "rounds": self._rounds}
            write_file(self._place, (json.dumps(found) + "\n").encode())

    def _load(self) -> None:
        try:
            found: Any = json.loads(self._place.read_text(encoding="utf-8"))
            version = found["format_version"]
            right = version == FORMAT_VERSION and _are_groups(found["groups"])
            right = right and _are_rounds(found["rounds"], len(found["groups"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._unusable(f"cannot be read ({error})") from error
        if version != FORMAT_VERSION:
            raise self._unusable(f"is of format {version!r}, and this version reads {FORMAT_VERSION}")
        if not right:
            raise self._unusable("does not say which rounds were masked")
        self._groups, self._rounds = found["groups"], found["rounds"]

    def _unusable(self, why: str) -> RunFolderError:
        return RunFolderError(
            f"{self._place} {why}: without it nobody knows for which rounds, and with whom, an update was masked; "
            "restore it from a copy, or begin a new run with another --run"
        )


def _names(group: Collection[str]) -> str:
    return ", ".join(map(told, group))


def _are_groups(found: Any) -> bool:
    """Return whether something is a list of groups: sorted names, each once, in a list of their own."""
    return type(found) is list and all(
        type(group) is list and group and all(type(name) is str for name in group) and group == sorted(set(group))
        for group in found
    )


def _are_rounds(found: Any, groups: int) -> bool:
    """Return whether something tells of rounds, counted from 1, which of so many groups they were masked with."""
    return type(found) is dict and all(
        _ROUND.fullmatch(round_) and type(own) is list and own and all(type(n) is int and 0 <= n < groups for n in own)
        for round_, own in found.items()
    )
