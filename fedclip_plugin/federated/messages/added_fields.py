"""What our subclasses add to FedML's messages."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedclip_plugin.federated.roles.task import Score

ROUND = "fedclip_round"
"""Index of the round that a message belongs to, counted from 0 as FedML does."""

TRAIN = "fedclip_train"
"""Whether the silo was sampled to train in this round; silos that were not only evaluate."""

COMPLETE = "fedclip_complete"
"""The last complete round when the message was sent: a resumed run goes on after that one or a later one."""

TRY = "fedclip_try"
"""Whether the message carries solutions of a closed-form method, to be tried on the silo's validation images."""

CHOSEN = "fedclip_chosen"
"""Penalty and mix of a closed-form method, which a silo's own adapter takes over (``personal_statistics``)."""

OTHERS = "others."
"""How the names of the sums of the other silos begin, beside solutions (``personal_statistics``)."""

LAST = "fedclip_last"
"""Whether the adapter is the last one before the recipe's last round, as no silo may train any more."""

WHOLE = "fedclip_whole"
"""Whether the adapter travels as it is, whatever the codec: the silo lacks the one before it (``round_grace``)."""

REPORT = "fedclip_report"
"""A :class:`SiloReport`."""


@dataclass(frozen=True)
class SiloReport:
    """What a silo says about the global adapter that has just arrived, or its own where nothing is averaged.

    No images and no features.

    Attributes
    ----------
    silo
        Name of the silo.
    round
        Rounds behind the adapter that was evaluated; 0 is the untrained one.
    validation, test
        Scores of that adapter on the silo's own splits; None in a simulation, in a round that is not tested.
    zero_shot
        Scores of CLIP without an adapter, by split; sent with the first report only.
    personal
        Scores by split of the adapter that the silo made for itself, after the last round.
    train_loss
        Mean loss of the training that followed, None when the silo did not train, or trains with differential privacy.
    train_seconds, evaluate_seconds
        Wall time of that training and of this evaluation.
    epsilon
        With differential privacy, what all updates of the silo together spend of its training images' privacy, the one
        that this report is with included: an upper bound for the recipe's ``dp_delta``.
    spent
        Whether another round would exceed ``dp_target_epsilon``: the silo trains no more.
    """

    silo: str
    round: int
    validation: Score | None
    test: Score | None
    zero_shot: dict[str, Score] = field(default_factory=dict)
    personal: dict[str, Score] = field(default_factory=dict)
    train_loss: float | None = None
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    epsilon: float | None = None
    spent: bool = False
