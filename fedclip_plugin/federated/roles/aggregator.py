"""The aggregator: check the updates, weigh them, average them in silo order."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from fedml.core import ServerAggregator
from torch import Tensor

from fedclip_plugin.errors import FederationError
from fedclip_plugin.features import InputSet
from fedclip_plugin.federated.members import Members
from fedclip_plugin.federated.messages.error_feedback import ErrorFeedback
from fedclip_plugin.federated.privacy.noisy_sums import NO_NOISE, SumNoise
from fedclip_plugin.federated.roles.class_scorer import ClassScorer
from fedclip_plugin.federated.roles.closed_form_round import ClosedFormRound, Sent
from fedclip_plugin.federated.roles.robust_aggregation import RobustAggregation, Updates
from fedclip_plugin.federated.roles.server_optimizer import ServerOptimizer
from fedclip_plugin.federated.roles.settings import TrainingSettings
from fedclip_plugin.federated.roles.task import AnswerHistory, Answers, Histories, Score, Task
from fedclip_plugin.federated.roles.trainer import RIGHT
from fedclip_plugin.federated.roles.update_check import update_fault
from fedclip_plugin.federated.secure_sums.collector import average
from fedclip_plugin.methods import Adapter, load_parameters, parameters_of
from fedclip_plugin.methods.closed_form.adapters import ClosedForm
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.text import counted, told

logger = logging.getLogger(__name__)
_NAMED = 10
"""Faults that an error tells in words."""

_MOST = 2**48
"""Images that no silo has."""


class FedClipAggregator(ServerAggregator):
    """Averages the silos' adapters; FedML's working defences apply through its hooks.

    Parameters
    ----------
    folder
        The run folder, where the final adapter goes.
    zero_shot
        How CLIP without an adapter labels the target domain, where there is one.
    splits
        Of each silo, by the images that it said it has, the sizes of ``train``, ``validation`` and ``test``; empty
        where that is not known.
    class_scorer
        Scores best and last adapter on base and new classes; None where all classes are trained.

    Attributes
    ----------
    answered
        Names of the silos whose updates come next into :meth:`on_before_aggregation`, in that order.
    members
        Which of the recipe's silos the silos are; at first they are taken for all.
    spent
        Places of the silos that said at the start that they may train no more, as their images' privacy is spent.
    dropped
        Silo to reason, for the updates that the last round left out.
    outliers
        Silo to reason, for the updates that robust aggregation clipped or left out.
    target
        Accuracy of the newest adapter on the target domain, None when there is none or it was not this round's turn
        (``frequency_of_the_test``). Without a federation the mean over the silos' own adapters.
    share
        How much of what was trained is in the adapter that :meth:`interpolate` took; None before.
    target_answers
        What that adapter, or each silo's own, said of the target's images.
    closed_form
        The first round of a method that is solved, or starts from what is solved; None for the others.
    """

    model: Adapter

    def __init__(
        self,
        model: Adapter,
        args: Any,
        settings: TrainingSettings,
        task: Task,
        silos: Sequence[str],
        folder: RunFolder,
        zero_shot: Answers | None = None,
        splits: Sequence[Mapping[str, int]] = (),
        class_scorer: ClassScorer | None = None,
    ) -> None:
        super().__init__(model, args)
        self.class_scorer = class_scorer
        self.settings, self.task, self.silos, self.folder = settings, task, tuple(silos), folder
        self.answered: tuple[str, ...] = self.silos
        self.zero_shot, self.splits = zero_shot, tuple(splits)
        self._images = {name: sizes["train"] for name, sizes in zip(silos, splits, strict=False)}
        self.compressor = ErrorFeedback(settings.codec)
        self.optimizer = ServerOptimizer(settings.server_optimizer, settings.server_lr, settings.server_momentum)
        self.closed_form: ClosedFormRound | None = None
        if isinstance(model, ClosedForm):
            views, apart, private = settings.augmented_views, settings.forgettable, settings.privacy
            noise = SumNoise.of(private.multiplier(1.0, 1, 1), model.needs_gram) if private else NO_NOISE
            self.closed_form = ClosedFormRound(type(model), task.text, views, apart, noise)
        self.spent: frozenset[int] = frozenset()
        self.members = Members(len(self.silos))
        self.dropped: dict[str, str] = {}
        self.outliers: dict[str, str] = {}
        self._robust = RobustAggregation(
            settings.robust_aggregation, settings.byzantine_silos, settings.norm_bound_factor
        )
        self.target: float | None = None
        self.target_answers: tuple[Answers, ...] = ()
        self.share: float | None = None
        self._start = {name: own.clone() for name, own in parameters_of(model).items()} if settings.wise else {}
        self._alone: list[Mapping[str, Tensor]] = []

    def get_model_params(self) -> OrderedDict[str, Tensor]:
        """Return the global adapter's parameters on the CPU."""
        return parameters_of(self.model)

    def set_model_params(self, model_parameters: Mapping[str, Tensor]) -> None:
        """Load parameters into the global adapter."""
        load_parameters(self.model, model_parameters)

    def on_before_aggregation(self, raw_client_model_or_grad_list: Updates) -> tuple[Updates, list[int]]:
        """Expand the updates, drop unusable ones, weigh the others, and hand them to defences, FedML's and our own.

        They are those of the silos in :attr:`answered`, with their sample counts. Return what is averaged, and its
        positions in the list that came in; a FederationError when fewer than ``min_silos`` updates are usable.
        """
        held = self.get_model_params()
        template = self.compressor.template(held)
        pairs = zip(self.answered, raw_client_model_or_grad_list, strict=True)
        opened = [self._open(self._images.get(name), *sent, template, held) for name, sent in pairs]
        faults = {name: found for name, found in zip(self.answered, opened, strict=True) if isinstance(found, str)}
        kept = [index for index, name in enumerate(self.answered) if name not in faults]
        self.require_enough(len(kept), faults)
        # FedML averages into the first dictionary it is given, and its plain runner moves updates to the GPU.
        updates = []
        for index in kept:
            (samples, _), update = raw_client_model_or_grad_list[index], opened[index]
            assert not isinstance(update, str), "a fault is not kept"
            updates.append((self._weight(samples), OrderedDict((name, value.cpu()) for name, value in update.items())))
        self._alone = [dict(update) for _, update in updates] if not self.settings.averaged else []
        updates, chosen = super().on_before_aggregation(updates)
        return self._robustly(updates, held, [self.answered[index] for index in kept]), [kept[own] for own in chosen]

    def fault_of(self, silo: str, samples: Any, sent: Any) -> str | None:
        """Return why a silo's update, as it was sent, will be dropped; None where it will be averaged."""
        held = self.get_model_params()
        opened = self._open(self._images.get(silo), samples, sent, self.compressor.template(held), held)
        return opened if isinstance(opened, str) else None

    def _robustly(self, updates: Updates, held: Mapping[str, Tensor], names: Sequence[str]) -> Updates:
        """Return what robust aggregation makes of the updates of these silos, and note whose it did not take whole."""
        found = self._robust.apply(held, updates)
        self.outliers = {names[index]: reason for index, reason in found.outliers.items()}
        level = logging.WARNING if self._robust.name == "norm_bound" else logging.INFO  # others leave good ones out too
        for name, reason in self.outliers.items():
            logger.log(level, "round %d: %s: %s", self.args.round_idx + 1, told(name), reason)
        return found.updates

    def solving(self, index: int) -> ClosedFormRound | None:
        """Return what solves the round of this index; None where it trains."""
        return self.closed_form if index == 0 else None

    def take_sums(self, sent: Sequence[Sent]) -> None:
        """Take in the sums of silos, of a closed-form method; a FederationError when too few can be used."""
        assert self.closed_form is not None, "asked of those methods only"
        take = self.closed_form.take_masked_sums if self.settings.secure_sums else self.closed_form.take_sums
        faults = take(sent)
        self.require_enough(len(sent) - len(faults), faults)

    def aggregate_masked(self, sent: Updates) -> OrderedDict[str, Tensor]:
        """Return what follows from the average of the masked updates of silos in :attr:`answered`.

        They are sample counts and tensors as :meth:`on_before_aggregation` gets them; errors as of :func:`average`.
        """
        self.require_enough(len(sent), {})
        held = self.get_model_params()
        mean = average(held, sent, self.answered, self._images, self.settings.secure_sums_bound)
        return self.optimizer.step(held, mean)

    def take_trials(self, sent: Sequence[Sent]) -> OrderedDict[str, Tensor]:
        """Take in how solutions did, and return the adapter that is chosen by it; errors as :meth:`take_sums`."""
        assert self.closed_form is not None, "asked of those methods only"
        faults = self.dropped | self.closed_form.take_trials(sent)
        self.require_enough(sum(own.silo not in faults for own in sent), faults)
        if self.settings.forgettable:
            self.folder.save_sums(self.closed_form.arrays())
        return self.closed_form.result()

    def take_interpolations(self, sent: Sequence[tuple[Any, Any]]) -> list[int]:
        """Return the sums of what silos in :attr:`answered` say of each interpolation, by the share (``wise``).

        They are sample counts and answers as :meth:`on_before_aggregation` gets them; unusable ones are dropped.
        """
        template = {RIGHT: torch.zeros(len(self.settings.wise), dtype=torch.int64)}
        splits = dict(zip(self.silos, self.splits, strict=False))
        total, faults = template[RIGHT].clone(), {}
        for name, (samples, answer) in zip(self.answered, sent, strict=True):
            sizes = splits.get(name, {})
            reason = update_fault(samples, answer, template, sizes.get("train"))
            if reason is None and not _between(answer[RIGHT], sizes.get("validation", _MOST)):
                reason = "more right answers than validation images, or less than none"
            if reason is None:
                total += answer[RIGHT]
            else:
                faults[name] = reason
        self.require_enough(len(sent) - len(faults), faults)
        return [int(count) for count in total]

    def interpolate(self, right: Sequence[int]) -> OrderedDict[str, Tensor]:
        """Return the parameters of the share that labels most validation images rightly, the smallest of them."""
        self.share = self.settings.wise[right.index(max(right))]
        return OrderedDict(self.model.interpolate(self._start, self.get_model_params(), self.share))

    def require_enough(self, usable: int, faults: Mapping[str, str]) -> None:
        """Note what a round drops, and raise a FederationError when fewer than ``min_silos`` updates are usable."""
        self.dropped, self.outliers = dict(faults), {}
        for name, reason in faults.items():
            logger.warning("round %d: the update of %s is dropped: %s", self.args.round_idx + 1, told(name), reason)
        if usable < min(self.settings.min_silos, len(self.answered)):
            reasons = "; ".join(f"{told(name)}: {reason}" for name, reason in islice(faults.items(), _NAMED))
            more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
            few = f"{counted(usable, 'usable update')}, min_silos is {self.settings.min_silos}"
            raise FederationError(
                f"round {self.args.round_idx + 1}: {few} ({reasons}{more}); mend those silos and resume "
                f"{self.folder.path}, or lower fedclip_args.min_silos"
            )

    def on_after_aggregation(self, aggregated_model_or_grad: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        """Let FedML's after-aggregation defences have the average, then step on the server."""
        average: OrderedDict[str, Tensor] = super().on_after_aggregation(aggregated_model_or_grad)
        return self.optimizer.step(self.get_model_params(), average)

    def test(self, test_data: InputSet | None, device: torch.device, args: Any) -> tuple[float, float, int, int]:
        """Score what :meth:`score_target` scores, and save the global adapter when it is the last one.

        Return accuracy, 0, number of images, number of correct ones: the four figures that FedML keeps.
        """
        self.score_target(test_data)
        if args.round_idx == self.settings.comm_round - 1:
            self.save(self.settings.comm_round)
            self.folder.mark_final(self.settings.comm_round)
        scores = [answers.score for answers in self.target_answers] or [Score(0, 0)]
        return self.target or 0.0, 0.0, scores[0].count, scores[0].correct

    def score_target(self, target: InputSet | None) -> None:
        """Note what the newest adapter, or each silo's own where nothing is averaged, says of the target domain."""
        if target is None:
            self.target = None
            return
        self.target_answers = tuple(self._answers(target))
        self.target = fmean(answers.score.accuracy for answers in self.target_answers)

    def note_target(self, number: int, histories: Histories | None) -> None:
        """Keep what was answered about the target domain after round ``number``, where somebody asked for it."""
        if histories is not None and self.target is not None:
            history = histories.setdefault("target", AnswerHistory())
            history.zero_shot = self.zero_shot
            history.note(number, self.target_answers)

    def save(self, number: int) -> None:
        """Write the global adapter as that of round ``number``, with its accuracy on the target domain, and its share.

        Where nothing is averaged the silos' own adapters are scored and not this one: it carries no metrics.
        """
        metrics = {"target": self.target} if self.settings.averaged and self.target is not None else {}
        metrics |= {"wise": self.share} if self.share is not None else {}
        self.folder.save_round(self.task.saved(number, self.model, metrics))

    def _answers(self, target: InputSet) -> Iterator[Answers]:
        if not self._alone:
            yield self.task.answer(self.model, target)
            return
        together = OrderedDict((name, tensor.clone()) for name, tensor in self.get_model_params().items())
        for update in self._alone:
            self.set_model_params(update)
            yield self.task.answer(self.model, target)
        self.set_model_params(together)

    def _open(
        self,
        images: int | None,
        samples: Any,
        sent: Any,
        template: Mapping[str, Tensor],
        held: OrderedDict[str, Tensor],
    ) -> OrderedDict[str, Tensor] | str:
        """Return the parameters that a silo trained, or what is wrong with them."""
        reason = update_fault(samples, sent, template, images)
        if reason is not None:
            return reason
        update = self.compressor.expand(sent, held)
        reason = update_fault(samples, update, held, images) if self.compressor.remembers else None
        return reason or update

    def _weight(self, samples: float) -> float:
        return samples if self.settings.weighting == "samples" else 1.0


def _between(counts: Tensor, most: int) -> bool:
    return 0 <= int(counts.min()) <= int(counts.max()) <= most
