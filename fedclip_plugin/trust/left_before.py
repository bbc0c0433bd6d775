"""What has left a silo in a run so far, which a policy holds the next message against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from fedclip_plugin.trust.outgoing import KINDS, Kind


@dataclass
class LeftBefore:
    """Totals of all messages, those of earlier starts included.

    Attributes
    ----------
    recipe
        Digest of the recipe of which the next message is.
    size
        Bytes in all.
    trained
        Messages that carry training, by recipe: a study has one of each cell.
    """

    recipe: str = ""
    size: int = 0
    trained: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of_log(cls, entries: Iterable[Mapping[str, Any]]) -> Self:
        """Return what the lines of an egress log tell."""
        found = cls()
        for entry in entries:
            if entry["entry"] == "message":
                found.add(entry["kind"], entry["bytes"])
            else:
                found.recipe = entry.get("recipe", found.recipe)
        return found

    @property
    def rounds(self) -> int:
        """How often training of the recipe has left."""
        return self.trained[self.recipe]

    def add(self, kind: str, size: int) -> None:
        """Count a message."""
        self.size += size
        self.trained[self.recipe] += KINDS.get(kind, Kind()).trains
