"""One complete round: what the server writes, ``metrics.jsonl`` holds, and tables, pages and benchmarks read.

``round_record.schema.json`` beside this file is the JSON schema of a line, for readers in other programs.
"""

from __future__ import annotations

import json
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Number = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, defer_build=True)  # silos import records, and make none


class SiloRecord(_Record):
    """What a silo reported of one round.

    Attributes
    ----------
    train_loss
        Mean loss of the training that made the round's adapter; None without one, or a finite one.
    validation, test
        Accuracy of the round's adapter on the silo's own splits; None in a round of a simulation that is not tested,
        and of a silo that did not say in time.
    images
        Images of those splits, by name; empty where they are not tested.
    zero_shot
        Accuracy of CLIP without an adapter, by split; in the first round that the silo reports on, mostly 0, alone.
    personal
        Accuracy of the adapter that the silo made for itself, by split; in the last round alone.
    epsilon
        With differential privacy, what the silo's updates up to this round together spend of its training images'
        privacy, an upper bound for the round's ``delta``; None without.
    spent
        Whether the silo trains no more, as another round would exceed ``dp_target_epsilon``.
    """

    train_loss: float | None
    validation: Share | None
    test: Share | None
    images: dict[str, Number]
    zero_shot: dict[str, Share] = {}
    personal: dict[str, Share] = {}
    epsilon: Amount | None = None
    spent: bool = False


class ClientScores(_Record):
    """How well an adapter does on the test splits of a simulation's clients.

    Attributes
    ----------
    clients, images
        How many clients there are, and test images of them all.
    mean, std
        Mean accuracy over the clients, each alike, and its standard deviation (of these clients: no n - 1).
    worst, lower_quartile, median, upper_quartile, best
        Accuracies among the clients; quartiles are numpy's, interpolated linearly.
    weighted
        Accuracy over all images: the mean over the clients by their images.
    balanced_accuracy, macro_f1
        Of all images, each class alike: mean recall, and mean F1 (:class:`fedclip_edge.metrics.ClassMetrics`).
    """

    clients: Number
    images: Number
    mean: Share
    std: Share
    worst: Share
    lower_quartile: Share
    median: Share
    upper_quartile: Share
    best: Share
    weighted: Share
    balanced_accuracy: Share
    macro_f1: Share


class SolvedRecord(_Record):
    """What the silos' validation images chose in a round that is solved from sums.

    Attributes
    ----------
    penalty
        Regularisation of the solution.
    mix
        Weight of its logits beside CLIP's own.
    """

    penalty: Amount
    mix: Amount


class RoundRecord(_Record):
    """One line of ``metrics.jsonl``; round 0 is the untrained adapter.

    Attributes
    ----------
    round
        The rounds behind the adapter.
    silos
        What each silo reported, in silo order. In a simulation the domains, or the data set, each with all its clients.
    train_loss, validation, test
        Means over the silos; the loss over those that had one. Accuracies are None where silos' are.
    answered
        The silos, or clients, that sent an update.
    late
        Silos that did not answer in time (``round_grace``): their updates are not in the round's adapter. Where a round
        is solved, a silo may be late with trying solutions alone, and is in ``answered`` too.
    silent
        Silos that have not said in time how the round's adapter does: their scores are None, and not in the means.
    dropped
        Silo to reason, for the updates that were left out.
    outliers
        Silo to reason, for the updates that robust aggregation clipped or left out.
    bytes_up, bytes_down
        Sent by all silos, and to them. In a simulation what the tensors of the round's clients would take.
    seconds
        Wall time by phase; ``round`` is the whole.
    zero_shot_target, images_target
        Zero-shot CLIP's accuracy on the target domain, and its images; in round 0 of a run with a target.
    target
        Accuracy on the target domain; None without one, or where it was not this round's turn.
    wise
        In the last round of a run with ``wise``, which interpolates and trains nothing: how much of what was trained is
        in the adapter, from 0, zero-shot CLIP, to 1.
    solved
        Of a round that is solved from sums over the silos' images, and trains nothing.
    best_round
        The first round so far of the highest mean source validation, among those that were tested.
    without
        Silos that were left out of the job (``--without``); they are among the silent ones.
    clients, zero_shot_clients
        Of a simulation: how the adapter, and in round 0 CLIP without one, does on its clients' own test images; None
        in a round that is not tested.
    """

    round: Number
    silos: Annotated[dict[str, SiloRecord], Field(min_length=1)]
    train_loss: float | None
    validation: Share | None
    test: Share | None
    answered: tuple[str, ...]
    late: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    dropped: dict[str, str]
    outliers: dict[str, str] = {}
    bytes_up: Number
    bytes_down: Number
    seconds: dict[str, Amount]
    zero_shot_target: Share | None = None
    images_target: Number | None = None
    target: Share | None
    wise: Share | None = None
    solved: SolvedRecord | None = None
    delta: Share | None = None
    best_round: Number
    without: tuple[str, ...] = ()
    clients: ClientScores | None = None
    zero_shot_clients: ClientScores | None = None

    @model_validator(mode="after")
    def _tested_as_a_whole(self) -> Self:
        known = {
            score is not None
            for name, silo in self.silos.items()
            if name not in self.silent
            for score in (silo.validation, silo.test)
        }
        known |= {self.validation is not None, self.test is not None, *([True] if self.round == 0 else [])}
        if len(known) > 1:
            raise ValueError(
                "validation and test are known of all silos, or of none (of round 0 always); but of silent ones"
            )
        return self

    def to_json(self) -> str:
        """Return the record as one line of JSON; what is not known of this round is left out."""
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True), allow_nan=False)

    @property
    def epsilon(self) -> float | None:
        """The largest epsilon of a silo; None without differential privacy."""
        return max((silo.epsilon for silo in self.silos.values() if silo.epsilon is not None), default=None)

    @property
    def privacy_spent(self) -> dict[str, float]:
        """Epsilon and delta of all rounds up to this one; empty without differential privacy."""
        epsilon, delta = self.epsilon, self.delta
        return {} if epsilon is None or delta is None else {"epsilon": epsilon, "delta": delta}

    @property
    def privacy_over(self) -> bool:
        """Whether no silo trains any more, as the privacy of all their images is spent."""
        return all(silo.spent for silo in self.silos.values())

    def tests(self) -> dict[str, float]:
        """Return the accuracy on each silo's test split; empty in a round that is not tested."""
        return {name: silo.test for name, silo in self.silos.items() if silo.test is not None}


def schema_text() -> str:
    """Return the JSON schema of a line of ``metrics.jsonl``, which ``round_record.schema.json`` holds."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **RoundRecord.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
