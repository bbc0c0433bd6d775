"""Which rounds a silo has masked an update for, and with which members, on its own disk.

Two sums over different members of one round give away their difference. So a silo writes down what it is about to
mask before it does, and knows it after a restart, whatever the server says.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fedclip_edge.files import write_file
from fedclip_plugin.errors import MaskingRefusedError, RunFolderError
from fedclip_plugin.runs.writing import writing
from fedclip_plugin.text import told

FORMAT_VERSION = 1
MASKED_ROUNDS = "masked_rounds.json"


class MaskedRounds:
    """The list of a silo and a run; it only grows.

    Parameters
    ----------
    place
        Its file.
    redo
        Whether a round may be masked once more with other members (``on_missing: redo``).
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
            raise self._unusable(f"is missing, and {done} rounds are complete")
        else:
            self._save()

    def note(self, round_: int, members: Collection[str]) -> frozenset[str]:
        """Write down that the update of a round, counted from 1, is about to be masked with these members.

        Return those with whom that round was masked before and who are no members now: with ``redo`` the server has
        declared them lost.

        Raises
        ------
        MaskingRefusedError
            The round was masked with other members before, and may not be masked again with these.
        RunFolderError
            The disk refuses: then nothing may be masked.
        """
        group, earlier = sorted(members), [self._groups[place] for place in self._rounds.get(str(round_), [])]
        if earlier and group in earlier:
            return frozenset()
        if earlier and not self._redo:
            raise MaskingRefusedError(
                f"round {round_} was masked with {_names(earlier[-1])} before, and is now to be masked with "
                f"{_names(group)}: the two sums together would tell what those in one of them alone have sent "
                "(on_missing: abort); resume with all silos of that round, or begin a new run with another --run"
            )
        if group not in self._groups:
            self._groups.append(group)
        self._rounds.setdefault(str(round_), []).append(self._groups.index(group))
        self._save()
        return frozenset(name for each in earlier for name in each) - frozenset(group)

    def _save(self) -> None:
        with writing(self._place):
            self._place.parent.mkdir(parents=True, exist_ok=True)
            found = {"format_version": FORMAT_VERSION, "groups": self._groups, "rounds": self._rounds}
            write_file(self._place, (json.dumps(found) + "\n").encode())

    def _load(self) -> None:
        try:
            found: Any = json.loads(self._place.read_text(encoding="utf-8"))
            version, groups, rounds = found["format_version"], found["groups"], found["rounds"]
            right = all(type(name) is str for group in groups for name in group)
            places = [place for own in rounds.values() for place in own]
            right = right and all(type(place) is int and 0 <= place < len(groups) for place in places)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._unusable(f"cannot be read ({error})") from error
        if version != FORMAT_VERSION:
            raise self._unusable(f"is of format {version!r}, and this version reads {FORMAT_VERSION}")
        if not right:
            raise self._unusable("does not say which rounds were masked")
        self._groups, self._rounds = groups, rounds

    def _unusable(self, why: str) -> RunFolderError:
        return RunFolderError(
            f"{self._place} {why}: without it nobody knows for which rounds, and with whom, an update was masked; "
            "restore it from a copy, or begin a new run with another --run"
        )


def _names(group: Collection[str]) -> str:
    return ", ".join(map(told, group))
