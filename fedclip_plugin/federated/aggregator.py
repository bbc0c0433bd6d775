"""The server's side of the pair: screen the updates, weigh them, average them in silo order."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from fedml.core import ServerAggregator
from torch import Tensor, nn

from fedclip_plugin.errors import FederationError
from fedclip_plugin.features import FeatureSet
from fedclip_plugin.federated.noise import secret_noise
from fedclip_plugin.federated.screen import fault
from fedclip_plugin.federated.task import Score, Task
from fedclip_plugin.runs import RunFolder

logger = logging.getLogger(__name__)
Updates = list[tuple[float, OrderedDict[str, Tensor]]]


class FedClipAggregator(ServerAggregator):
    """Averages the silos' adapters; FedML's working defences and DP apply through its hooks.

    Parameters
    ----------
    model
        The global adapter.
    args
        FedML's arguments; ``weighting`` and ``comm_round`` are used.
    task
        Classes, text features, backbone.
    silos
        Names of all silos, in order.
    min_silos
        Fewest usable updates that a round may be made of.
    folder
        The run folder, where the final adapter goes.

    Attributes
    ----------
    answered
        Names of the silos whose updates come next into :meth:`on_before_aggregation`, in that order.
    dropped
        Silo to reason, for the updates that the last round left out.
    target
        Score of the newest global adapter on the target domain, None when there is none or it was not this round's
        turn (``frequency_of_the_test``).
    """

    def __init__(
        self, model: nn.Module, args: Any, task: Task, silos: Sequence[str], min_silos: int, folder: RunFolder
    ) -> None:
        super().__init__(model, args)
        self.task, self.silos, self.min_silos, self.folder = task, tuple(silos), min_silos, folder
        self.answered: tuple[str, ...] = self.silos
        self.dropped: dict[str, str] = {}
        self.target: Score | None = None

    def get_model_params(self) -> OrderedDict[str, Tensor]:
        """Return the global adapter's parameters on the CPU."""
        return OrderedDict((name, tensor.detach().cpu()) for name, tensor in self.model.state_dict().items())

    def set_model_params(self, model_parameters: OrderedDict[str, Tensor]) -> None:
        """Load parameters into the global adapter."""
        self.model.load_state_dict(model_parameters)

    def on_before_aggregation(self, raw_client_model_or_grad_list: Updates) -> tuple[Updates, list[int]]:
        """Drop unusable updates, weigh the others, and hand them to FedML's defences.

        Parameters
        ----------
        raw_client_model_or_grad_list
            Sample count and parameters of each silo in :attr:`answered`.

        Returns
        -------
        updates, indices
            What is averaged, and its positions in the list that came in.

        Raises
        ------
        FederationError
            When fewer than ``min_silos`` updates are usable.
        """
        template = self.get_model_params()
        faults = {
            name: reason
            for name, (samples, update) in zip(self.answered, raw_client_model_or_grad_list, strict=True)
            if (reason := fault(samples, update, template)) is not None
        }
        self.dropped = faults
        for name, reason in faults.items():
            logger.warning("round %d: the update of %s is dropped: %s", self.args.round_idx + 1, name, reason)
        kept = [index for index, name in enumerate(self.answered) if name not in faults]
        if len(kept) < self.min_silos:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in faults.items())
            raise FederationError(
                f"round {self.args.round_idx + 1}: {len(kept)} usable updates, min_silos is {self.min_silos} "
                f"({reasons}); mend those silos and resume, or lower fedclip_args.min_silos"
            )
        # FedML averages into the first dictionary it is given, and its plain runner moves updates to the GPU.
        updates = []
        for index in kept:
            samples, update = raw_client_model_or_grad_list[index]
            updates.append((self._weight(samples), OrderedDict((name, value.cpu()) for name, value in update.items())))
        updates, chosen = super().on_before_aggregation(updates)
        return updates, [kept[index] for index in chosen]

    def on_after_aggregation(self, aggregated_model_or_grad: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        """Let FedML add central differential privacy and its after-aggregation defences."""
        with secret_noise():
            result: OrderedDict[str, Tensor] = super().on_after_aggregation(aggregated_model_or_grad)
        return result

    def test(self, test_data: FeatureSet | None, device: torch.device, args: Any) -> tuple[float, float, int, int]:
        """Score the global adapter on the target domain, and save it when it is the last one.

        Returns
        -------
        tuple
            Accuracy, 0, number of images, number of correct ones; the four figures that FedML keeps.
        """
        self.target = self.task.score(self.model, test_data) if test_data is not None else None
        if args.round_idx == args.comm_round - 1:
            self.save(args.comm_round)
            self.folder.mark_final(args.comm_round)
        score = self.target or Score(0, 0)
        return score.accuracy, 0.0, score.count, score.correct

    def save(self, number: int) -> None:
        """Write the global adapter as that of round ``number``.

        Raises
        ------
        OSError
            When the disk is full or the folder cannot be written.
        """
        metrics = {} if self.target is None else {"target": self.target.accuracy}
        self.folder.save_round(self.task.saved(number, self.get_model_params(), metrics))

    def _weight(self, samples: float) -> float:
        return samples if self.args.weighting == "samples" else 1.0
