"""What the adapters of a federation answered, round by round; kept only where somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fedclip_plugin.federated.roles.task import Answers


@dataclass
class AnswerHistory:
    """A rank's answers: a silo's for its test split, the server's for the target domain. They stay with the rank."""

    name: str = "target"  # the silo's
    zero_shot: Answers | None = None  # CLIP's without an adapter; None on a server without a target
    images: int | None = None  # all images of the silo, of which its test split is a part; None on the server
    rounds: dict[int, tuple[Answers, ...]] = field(default_factory=dict)  # those of the adapter after it

    def note(self, number: int, answers: Iterable[Answers]) -> None:
        """Keep the answers of round ``number``."""
        self.rounds[number] = tuple(own.cpu() for own in answers)
