"""What the adapters of a federation answered, round by round; kept only where somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fedclip_plugin.federated.roles.task import Answers


@dataclass
class AnswerHistory:
    """A rank's answers: a silo's for its test split, the server's for the target domain. They stay with the rank.

    Attributes
    ----------
    name
        The silo's; ``target`` on the server.
    zero_shot
        CLIP's without an adapter; None on a server without a target.
    images
        All images of the silo, of which its test split is a part; None on the server.
    rounds
        Round to the answers of the adapter after it; one row a silo where every silo has an adapter of its own.
    """

    name: str = "target"
    zero_shot: Answers | None = None
    images: int | None = None
    rounds: dict[int, tuple[Answers, ...]] = field(default_factory=dict)

    def note(self, number: int, answers: Iterable[Answers]) -> None:
        """Keep the answers of round ``number``."""
        self.rounds[number] = tuple(own.cpu() for own in answers)
