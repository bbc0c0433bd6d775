"""How far a difference of accuracies may be chance: other seeds and other test images, and several cases at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from fedclip_plugin.study.running.answer_counts import Kinds

LEVEL = 0.95

Verdict = Literal["gain", "loss", "no difference"]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class DomainCounts:
    """What was answered for the images of one domain, as counts.

    Attributes
    ----------
    together
        How many images are of each kind in all federations together.
    by_seed
        By seed, how many images are of each kind in each of its federations.
    """

    together: Kinds
    by_seed: Mapping[int, Sequence[Kinds]]


@dataclass(frozen=True)
class Estimate:
    """A difference of accuracies and how well it is known.

    Attributes
    ----------
    mean
        The difference, a fraction.
    error
        Its standard error.
    freedom
        Degrees of freedom of the standard error.
    seeds
        Over how many seeds; of one seed the error is about other images alone.
    """

    mean: float
    error: float
    freedom: float
    seeds: int

    @property
    def p_value(self) -> float:
        """How probable so large a difference, of either sign, is where there is none."""
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))

    def ends(self, level: float) -> tuple[float, float]:
        """Return the ends of the interval that holds the truth with a probability."""
        reach = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error if self.error else 0.0
        return round(self.mean - reach, 12), round(self.mean + reach, 12)  # an end at 0 is 0, not 1e-18


@dataclass(frozen=True)
class Interval:
    """A difference of accuracies, where it may lie, and what is said of it beside the others of its table.

    Attributes
    ----------
    mean
        The difference, a fraction.
    low, high
        Ends of its interval; those of all comparisons hold together with 95 %.
    verdict
        A gain or a loss where the difference is no chance, all comparisons considered.
    p_value
        Of this comparison alone.
    comparisons
        How many there are.
    seeds
        Over how many seeds it is.
    """

    mean: float
    low: float
    high: float
    verdict: Verdict
    p_value: float
    comparisons: int
    seeds: int


def estimate(domains: Sequence[DomainCounts]) -> Estimate | None:
    """Return the mean difference over domains with its standard error over other seeds and other images.

    Seeds and images are random, domains are fixed: each domain counts alike, and each answer in it. A seed has
    one deviation on all domains, and an image one in all federations that tested it.

    Returns
    -------
    Estimate or None
        None without any domain.

    Notes
    -----
    The variance of a mean in a two-way layout with random rows and columns (Searle, Casella and McCulloch, Variance
    Components, 1992, chapter 4): what the means of seeds vary by, over their number, plus what two seeds have in
    common since they test the same images. Degrees of freedom after Satterthwaite, Biometrics Bulletin 2, 1946: of few
    seeds few. A bootstrap over few seeds would be too narrow, as it takes the variance with n and not with n - 1
    (Hesterberg, The American Statistician 69, 2015). Of one seed only the images' part is known.
    """
    if not domains:
        return None
    seeds = sorted({seed for domain in domains for seed in domain.by_seed})
    parts = [_Parts.of(domain, seeds) for domain in domains]
    count, images = len(seeds), sum(sum(domain.together.images) for domain in domains)
    mean = float(np.mean([part.mean for part in parts]))
    of_images = sum(part.of_images for part in parts) / len(parts) ** 2
    freedom = max(images - 1, 1)
    if count == 1:
        return Estimate(mean, sqrt(of_images), freedom, count)
    deviations = np.mean([part.deviations for part in parts], axis=0)
    of_seeds = count / (count - 1) * float(deviations @ deviations)
    of_answers = sum(part.of_answers for part in parts) / len(parts) ** 2
    shared = max(0.0, (of_images - of_answers) * count / (count - 1))
    variance = of_seeds + shared
    spread = of_seeds**2 / (count - 1) + shared**2 / freedom
    return Estimate(mean, sqrt(variance), variance**2 / spread if spread else freedom, count)


def together(estimates: Sequence[Estimate]) -> list[Interval]:
    """Return the intervals and verdicts of comparisons that are read together.

    Notes
    -----
    Intervals after Bonferroni: each has the level 1 - 0.05 / m for m comparisons. Verdicts after Holm, Scandinavian
    Journal of Statistics 6, 1979: with the p-values in rising order, the k-th is compared with 0.05 / (m - k + 1),
    up to the first that fails. A verdict can so be a gain although its interval holds 0.
    """
    count, told = len(estimates), set[int]()
    for rank, number in enumerate(sorted(range(count), key=lambda number: estimates[number].p_value)):
        if estimates[number].p_value > (1 - LEVEL) / (count - rank):
            break
        told.add(number)
    return [_interval(found, count, number in told) for number, found in enumerate(estimates)]


def _interval(found: Estimate, comparisons: int, told: bool) -> Interval:
    low, high = found.ends(1 - (1 - LEVEL) / comparisons)
    verdict: Verdict = "no difference" if not told else "gain" if found.mean > 0 else "loss"
    return Interval(found.mean, low, high, verdict, found.p_value, comparisons, found.seeds)


@dataclass(frozen=True)
class _Parts:
    """What a domain adds: its mean, the seeds' deviations from it, and sums of squares over the square of all answers.

    Attributes
    ----------
    of_images, of_answers
        Of what an image gained in all federations, and in those of one seed.
    """

    mean: float
    deviations: Numbers
    of_images: float
    of_answers: float

    @classmethod
    def of(cls, domain: DomainCounts, seeds: Sequence[int]) -> _Parts:
        gains, answers = (np.array(side, dtype=np.float64) for side in _sums(domain, seeds))
        total = answers.sum()
        mean = gains.sum() / total
        kinds, images = domain.together, sum(domain.together.images)
        scale = images / max(images - 1, 1) / total**2
        squares = float(_squares(kinds, mean) @ kinds.images)
        return cls(mean, (gains - mean * answers) / total, scale * squares, scale * _of_answers(domain, mean))


def _sums(domain: DomainCounts, seeds: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return by seed the sum of gains, and the number of answers."""
    of = [domain.by_seed.get(seed, ()) for seed in seeds]
    gains = [sum(int(np.dot(kinds.gain, kinds.images)) for kinds in some) for some in of]
    return gains, [sum(int(np.dot(kinds.tried, kinds.images)) for kinds in some) for some in of]


def _squares(kinds: Kinds, mean: float) -> Numbers:
    beyond: Numbers = np.asarray(kinds.gain) - mean * np.asarray(kinds.tried)
    return beyond * beyond


def _of_answers(domain: DomainCounts, mean: float) -> float:
    """Return the sum of squares of what each image gained with each seed.

    It is known where a seed has one federation. Where it has several, it is that of the images that one seed alone
    has tested, taken for all; 0, which makes an interval too wide, where there are none.
    """
    of = [(some, sum(kinds.tried[0] for kinds in some)) for some in domain.by_seed.values()]
    if all(len(some) == 1 for some, _ in of):
        return sum(_around_own_mean(some[0]) for some, _ in of)
    tried, kinds = min(each for _, each in of), domain.together
    once = np.where(np.asarray(kinds.tried) == tried, kinds.images, 0)
    if not once.any() or len({each for _, each in of}) > 1:
        return 0.0
    return float(_squares(kinds, mean) @ once / once.sum()) * sum(sum(some[0].images) for some, _ in of)


def _around_own_mean(kinds: Kinds) -> float:
    mean = float(np.dot(kinds.gain, kinds.images) / np.dot(kinds.tried, kinds.images))
    return float(_squares(kinds, mean) @ kinds.images)
