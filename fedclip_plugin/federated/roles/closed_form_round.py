"""The server's side of a closed-form method: the silos' sums come in, solutions go out, trials come in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedclip_plugin.errors import FederationError
from fedclip_plugin.features import TextFeatures
from fedclip_plugin.federated.privacy.noisy_sums import NO_NOISE, SumNoise
from fedclip_plugin.federated.roles.choice import Chosen, Trials, solutions_of, to_wire
from fedclip_plugin.federated.roles.update_check import update_fault
from fedclip_plugin.federated.secure_sums.collector import summed
from fedclip_plugin.methods import Adapter, parameters_of
from fedclip_plugin.methods.closed_form.adapters import ClosedForm
from fedclip_plugin.methods.closed_form.feature_sums import Statistics

Tensors = OrderedDict[str, Tensor]
Arrays = dict[str, npt.NDArray[Any]]

_SCALE = "scale"

_ALL = ""
"""Stands for a silo's name where sums are of all silos together."""


class Sent(NamedTuple):
    """What a silo sent: its number of training images by itself, named tensors, and what it had at the start."""

    silo: str
    samples: Any
    tensors: Any
    images: Mapping[str, int]  # sizes of its splits, empty where they are not known


class ClosedFormRound:
    """One round: sums of each silo, trials of what was solved from them, and the adapter that these choose.

    Parameters
    ----------
    method
        The method's class.
    text
        Text features and CLIP's factor.
    views
        Augmented views of each training image.
    leave_one_out
        Also try what is solved without each of the silos, so that one can be taken out afterwards
        (``fedclip_args.forgettable``).
    noise
        What silos add to their sums.

    Attributes
    ----------
    chosen
        Penalty and mix of the last :meth:`result`; None before.
    """

    def __init__(
        self,
        method: type[ClosedForm],
        text: TextFeatures,
        views: int = 0,
        leave_one_out: bool = False,
        noise: SumNoise = NO_NOISE,
    ) -> None:
        self._method, self._text, self._views, self._leave_one_out = method, text, views, leave_one_out
        self._noise = noise
        self._no_sums = method.no_sums(text.features)
        self._sums: dict[str, Statistics] = {}
        self._sent: dict[str, Tensors] = {}
        self._trials: dict[str, list[Trials]] = {}
        self.chosen: Chosen | None = None

    def take_sums(self, sent: Iterable[Sent]) -> dict[str, str]:
        """Take in each silo's sums; return what is wrong with those that are left out, by silo."""
        faults, template = {}, self._no_sums.to_wire()
        for silo, samples, tensors, images in sent:
            trained = images.get("train")
            reason = update_fault(samples, tensors, template, trained)
            if reason is None:
                found = Statistics.from_wire(tensors)
                reason = found.fault((samples if trained is None else trained) * (1 + self._views), self._noise)
            if reason is None:
                self._sums[silo], self._sent[silo] = found, Tensors(tensors)
            else:
                faults[silo] = reason
        return faults

    def take_masked_sums(self, sent: Sequence[Sent]) -> dict[str, str]:
        """Take in the total of all silos' sums, which are masked: of none alone it can be told what is wrong with it.

        Raises
        ------
        FederationError
            The total cannot be read, or cannot be one over so many images.
        """
        images = {own.silo: own.images["train"] for own in sent if own.images}
        parts = [(own.samples, own.tensors) for own in sent]
        found = summed(self._no_sums, parts, [own.silo for own in sent], images)
        most = sum(images.get(own.silo, own.samples) for own in sent) * (1 + self._views)
        noise = SumNoise(*(len(sent) * deviation for deviation in self._noise))
        if reason := found.fault(most, noise):
            raise FederationError(
                f"the total of the silos' sums cannot be used: {reason}; with secure_sums nobody can tell which silo "
                "sent what: look at the silos' logs, or find out without secure_sums"
            )
        self._sums = {_ALL: found}
        return {}

    def take_total(self, numbers: npt.NDArray[np.float64]) -> None:
        """Take in the sums of all clients of a simulation, as :meth:`Statistics.flat` wrote them."""
        self._sums = {_ALL: self._no_sums.of_flat(numbers)}

    def choose(self, trials: Mapping[str, Tensor]) -> Tensors:
        """Return the parameters of the adapter that the trials of all clients of a simulation choose."""
        self._trials = {_ALL: _trials(trials)}
        return self.result()

    def candidates(self) -> Tensors:
        """Return the solutions that silos are to try: of all silos, and where asked for without each of them."""
        left_out: list[str | None] = [None, *(self._sums if self._leave_one_out else ())]
        return to_wire(self._method, [solutions_of(self._method, self.total(silo)) for silo in left_out])

    def take_trials(self, sent: Iterable[Sent]) -> dict[str, str]:
        """Take in what each silo, whose sums count, found; return what is wrong with those left out, by silo."""
        faults, sets = {}, 1 + self._leave_one_out * len(self._sums)
        none = Trials.none(len(self._method.penalties), len(self._method.mixes)).to_wire()
        template = {name: tensor.expand(sets, *tensor.shape) for name, tensor in none.items()}
        for silo, samples, tensors, images in sent:
            if silo not in self._sums and _ALL not in self._sums:
                continue
            reason = update_fault(samples, tensors, template, images.get("train"))
            if reason is None:
                found = _trials(tensors)
                count = images.get("validation")
                reason = None if count is None else next((why for one in found if (why := one.fault(count))), None)
            if reason is None:
                self._trials[silo] = found
            else:
                faults[silo], self._trials[silo] = reason, _trials(template)
        return faults

    def result(self, without: str | None = None) -> Tensors:
        """Return the parameters of the adapter of all silos, or of all but one."""
        number = 0 if without is None else 1 + list(self._sums).index(without)
        found = [each[number] for silo, each in self._trials.items() if silo != without]
        choice = sum(found, Trials.none(len(self._method.penalties), len(self._method.mixes))).best()
        self.chosen = Chosen(self._method.penalties[choice.solution], self._method.mixes[choice.mix])
        (solution,) = solutions_of(self._method, self.total(without), [self.chosen.penalty])
        return self._method.mixed(self._text, solution, self.chosen.mix, choice.temperature)

    def total(self, without: str | None = None) -> Statistics:
        """Return the sums of all silos, or of all but one."""
        return sum((own for silo, own in self._sums.items() if silo != without), self._no_sums)

    @property
    def silos(self) -> tuple[str, ...]:
        """The silos whose sums count, in the order in which they were taken."""
        return tuple(self._sums)

    def arrays(self) -> Arrays:
        """Return all that was taken in, to be kept."""
        found: Arrays = {_SCALE: np.array([self._text.logit_scale])}
        for number, (silo, own) in enumerate(self._sent.items()):
            each = [one.to_wire() for one in self._trials[silo]]
            trials = {name: torch.stack([one[name] for one in each]) for name in each[0]}
            for name, tensor in (own | trials).items():
                found[f"{number:05d}:{silo}:{name}"] = tensor.numpy()
        return found

    @classmethod
    def of_arrays(cls, method: type[ClosedForm], text: Tensor, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the round that :meth:`arrays` is of, from the same text features, ``[C, d]``."""
        made = cls(method, TextFeatures(text, float(arrays[_SCALE][0])), leave_one_out=True)
        named: dict[str, dict[str, Tensor]] = {}
        for key in sorted(arrays.keys() - {_SCALE}):
            silo, _, name = key.partition(":")[2].rpartition(":")
            named.setdefault(silo, {})[name] = torch.tensor(arrays[key])
        for silo, tensors in named.items():
            made._sums[silo], made._trials[silo] = Statistics.from_wire(tensors), _trials(tensors)
        return made


def sent_by(adapter: Adapter) -> Tensors:
    """Return tensors like those that a silo sends: parameters, or of a closed-form method sums, without values."""
    if not isinstance(adapter, ClosedForm):
        return parameters_of(adapter)
    sums = adapter.no_sums(adapter.rows, "meta")
    named = Tensors(counts=sums.counts, sums=sums.sums)
    return named if sums.gram is None else Tensors(named, gram=sums.gram)


def _trials(tensors: Mapping[str, Tensor]) -> list[Trials]:
    return [Trials(*pair) for pair in zip(tensors["right"], tensors["losses"], strict=True)]
