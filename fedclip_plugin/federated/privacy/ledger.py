"""What a silo has spent of its images' privacy in a run, on disk: ``personal/<silo>/privacy.json``."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fedclip_edge.files import write_file
from fedclip_plugin.errors import RunFolderError
from fedclip_plugin.federated.privacy.accountant import Mechanism
from fedclip_plugin.runs.writing import writing

FORMAT_VERSION = 2

_ACCOUNT = re.compile("[0-9a-f]{16}")


def _new_account() -> str:
    return os.urandom(8).hex()


@dataclass(frozen=True)
class Ledger:
    """A silo's count of rounds, with what they were.

    It only grows: a round counts before its training begins, so that one that a killed job trained again counts twice.

    Attributes
    ----------
    noise_multiplier, rate, steps
        Of each round; ``steps`` is a number of steps.
    delta, clip
        As in the recipe.
    rounds
        How many have been counted.
    account
        Its random name, by which an egress log tells this count from one that was begun anew; 16 hexadecimal digits.
    """

    noise_multiplier: float
    rate: float
    steps: int
    delta: float
    clip: float
    rounds: int = 0
    account: str = field(default_factory=_new_account)

    @property
    def mechanism(self) -> Mechanism:
        """What the silo does in a round."""
        return Mechanism(self.noise_multiplier, self.rate, self.steps)

    def with_one_more(self) -> Ledger:
        """Return the count after another round."""
        return replace(self, rounds=self.rounds + 1)

    def save(self, place: Path) -> None:
        """Write it, whole or not at all; a RunFolderError when that fails."""
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1)
            write_file(place, f"{text}\n".encode())

    @classmethod
    def load(cls, place: Path) -> Ledger | None:
        """Read it; None where there is none. A RunFolderError when it is damaged, or of a newer format."""
        if not place.exists():
            return None
        try:
            found: Any = json.loads(place.read_text(encoding="utf-8"))
            version = found.pop("format_version")
            right = found.keys() == {own.name for own in fields(cls)} and all(
                _is_right(name, value) for name, value in found.items()
            )
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise _unusable(place, f"cannot be read ({error})") from error
        if version != FORMAT_VERSION:
            raise _unusable(place, f"is of format {version!r}, and this version reads {FORMAT_VERSION}")
        if not right:
            raise _unusable(place, "does not hold what was spent")
        return cls(**found)


def _is_right(name: str, value: Any) -> bool:
    if name == "account":
        return isinstance(value, str) and bool(_ACCOUNT.fullmatch(value))
    kind = int if name in ("steps", "rounds") else float
    return type(value) is kind and math.isfinite(value) and value >= 0


def _unusable(place: Path, why: str) -> RunFolderError:
    return RunFolderError(
        f"{place} {why}: without it nobody knows what was spent of the images' privacy; restore it from a copy, or "
        "begin a new run with another --run"
    )
