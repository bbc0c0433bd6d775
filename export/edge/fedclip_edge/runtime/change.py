"""What an update or a rollback changed on a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One head, or one whole bundle, in the place of another.

    Attributes
    ----------
    old_round, old_sequence
        What answered before.
    round, sequence
        What answers now.
    encoder_replaced
        Whether encoder and preprocessing changed as well.
    labels_added, labels_removed
        Labels that only the new, only the old round knows.
    given_up
        What to call a damaged round that a rollback left, while the round before had answered in its place; empty
        otherwise.
    """

    old_round: int
    old_sequence: int
    round: int
    sequence: int
    encoder_replaced: bool
    labels_added: tuple[str, ...]
    labels_removed: tuple[str, ...]
    given_up: str = ""
