"""Which regularisation, mixing weight and temperature a closed-form method takes: the silos' validation images say.

Every solution is tried with every mix and temperature on each silo's validation split. What travels are sums over that
split; those of all silos choose.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from fedclip_plugin.features import InputSet, TextFeatures
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.methods.closed_form.adapters import ClosedForm, Solution
from fedclip_plugin.methods.closed_form.feature_sums import Statistics

TEMPERATURES = tuple(sorted((2.0 ** (step / 2) for step in range(-12, 5)), key=lambda value: abs(value - 1.0)))
"""Factors on the logits, from 1/64 to 4; 1 comes first, and so wins where nothing speaks for another."""

LOSS_QUANTUM = 2.0**-20
"""What an image's loss is rounded to multiples of, so that losses add exactly in any order."""

_WORST_LOSS = 1e6
_LOGITS = 2**21  # that are worked on at once

SHARES = (1.0, 0.3, 0.1, 0.03, 0.0)
"""What of the others' sums a silo's own adapter is tried with."""


class Chosen(NamedTuple):
    """What all silos' validation images chose, and a silo's own adapter takes over."""

    penalty: float
    mix: float


class Choice(NamedTuple):
    """What was chosen: places in the lists of solutions and mixes, and the temperature itself."""

    solution: int
    mix: int
    temperature: float


@dataclass(frozen=True)
class Trials:
    """How L solutions do on some images with each of A mixes and T temperatures; such sums add."""

    right: Tensor  # images labelled correctly, ``[L, A]`` int64
    losses: Tensor  # sums of cross entropies, in :data:`LOSS_QUANTUM`, ``[L, A, T]`` int64

    @classmethod
    def none(cls, solutions: int, mixes: int, device: str = "cpu") -> Self:
        """Return those of no image."""
        right = torch.zeros(solutions, mixes, dtype=torch.int64, device=device)
        return cls(right, torch.zeros(solutions, mixes, len(TEMPERATURES), dtype=torch.int64, device=device))

    @classmethod
    @torch.no_grad()
    def of(cls, data: InputSet, text: TextFeatures, solutions: Sequence[Solution], mixes: Sequence[float]) -> Self:
        """Try solutions on labelled images, in float32 where they are."""
        found, own = cls.none(len(solutions), len(mixes)), data.text_beside(text)
        factors = torch.tensor(mixes, device=own.features.device)[:, None, None]
        at_once = max(1, _LOGITS // (len(mixes) * len(TEMPERATURES) * len(text.features)))
        for indices in torch.arange(len(data)).split(at_once):
            part = data.batch(indices)
            features = torch.nn.functional.normalize(part.inputs, dim=-1)
            zero_shot = own.logit_scale * features @ own.features.T
            for number, solution in enumerate(solutions):
                added = features @ solution.weights.to(features).T + solution.biases.to(features)
                logits = zero_shot + factors * added
                found.right[number] += (logits.argmax(-1) == part.labels).sum(-1).cpu()
                found.losses[number] += _losses(logits, part.labels)
        return found

    def __add__(self, other: Self) -> Self:
        return type(self)(self.right + other.right, self.losses + other.losses)

    def best(self, ties_by_loss: bool = True) -> Choice:
        """Return the solution and mix of the most correct labels, of those the one of the smallest loss; the first."""
        smallest, temperatures = self.losses.min(-1)
        order = [
            (-int(self.right[at]), int(smallest[at]) if ties_by_loss else 0, at)
            for at in ((i, j) for i in range(self.right.shape[0]) for j in range(self.right.shape[1]))
        ]
        _, _, (solution, mix) = min(order)
        return Choice(solution, mix, TEMPERATURES[int(temperatures[solution, mix])])

    def to_wire(self) -> OrderedDict[str, Tensor]:
        """Return them as they travel."""
        return OrderedDict(right=self.right, losses=self.losses)

    def fault(self, images: int) -> str | None:
        """Return why these cannot be sums over that many images; None when they can."""
        if bool((self.right < 0).any()) or bool((self.right > images).any()):
            return f"it counts more than the {images:,} validation images of the start, or less than none"
        if bool((self.losses < 0).any()):
            return "a loss is below 0"
        return None


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sums of cross entropies of logits ``[A, n, C]``, in quanta, ``[A, T]``.

    Every second temperature is twice the one before, and so its exponentials are the squares of those: two are
    computed in place of 17, and the losses are exact to some 1e-5.
    """
    below = logits - logits.amax(-1, keepdim=True)
    own = below.gather(-1, labels.expand(len(logits), -1)[..., None])[..., 0]
    found = torch.empty(*own.shape, len(TEMPERATURES), device=logits.device)
    rising = sorted(range(len(TEMPERATURES)), key=TEMPERATURES.__getitem__)
    for places in (rising[0::2], rising[1::2]):
        powers = (below * TEMPERATURES[places[0]]).exp_()
        for place in places:
            torch.sub(powers.sum(-1).log_(), own * TEMPERATURES[place], out=found[..., place])
            powers.square_()
    return (found.double().clamp_(max=_WORST_LOSS) / LOSS_QUANTUM).round_().long().sum(1).cpu()


def solutions_of(
    method: type[ClosedForm], statistics: Statistics, penalties: Sequence[float] | None = None
) -> list[Solution]:
    """Return a solution for each of the method's penalties, or of those that are given.

    One thread, so that equal sums give equal bits.
    """
    with torch_threads(1):
        return [method.solve(statistics, penalty) for penalty in penalties or method.penalties]


def to_wire(method: type[ClosedForm], sets: Iterable[Sequence[Solution]]) -> OrderedDict[str, Tensor]:
    """Return J sets of L solutions as they travel, ``[J, L, C, d]`` and ``[J, L, C]`` float32."""
    found = [*sets]
    named = OrderedDict(weights=torch.stack([torch.stack([one.weights for one in each]) for each in found]).float())
    if method.has_biases:
        named["biases"] = torch.stack([torch.stack([one.biases for one in each]) for each in found]).float()
    return named


def from_wire(tensors: Mapping[str, Tensor]) -> list[list[Solution]]:
    """Return the sets of solutions that :func:`to_wire` wrote."""
    weights = tensors["weights"]
    biases = tensors.get("biases", torch.zeros(weights.shape[:3]))
    return [[Solution(*one) for one in zip(*pair, strict=True)] for pair in zip(weights, biases, strict=True)]


def try_sets(
    method: type[ClosedForm], candidates: Mapping[str, Tensor], validation: InputSet, text: TextFeatures
) -> OrderedDict[str, Tensor]:
    """Return what a silo answers: :class:`Trials` of each set, one below the other, as they travel."""
    each = [Trials.of(validation, text, own, method.mixes).to_wire() for own in from_wire(candidates)]
    return OrderedDict((name, torch.stack([one[name] for one in each])) for name in each[0])


def personal(
    method: type[ClosedForm],
    text: TextFeatures,
    own: Statistics,
    others: Statistics,
    validation: InputSet,
    chosen: Chosen,
) -> OrderedDict[str, Tensor]:
    """Return the parameters of a silo's own adapter, from its sums and a share of the others'.

    Share and temperature are chosen by its own validation images, penalty and mix are those ``chosen`` by all.
    """
    with torch_threads(1):
        found = [method.solve(own.plus(others, share), chosen.penalty) for share in SHARES]
    choice = Trials.of(validation, text, found, [chosen.mix]).best(ties_by_loss=False)
    return method.mixed(text, found[choice.solution], chosen.mix, choice.temperature)
