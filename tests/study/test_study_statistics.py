"""Deviations over seeds and the paired bootstrap: known answers, coverage by simulation, and verdicts."""

import time
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fedclip_plugin.study import Kinds
from fedclip_plugin.study.running.own_answers import KeptAnswers, kinds_of
from fedclip_plugin.study.tables.accuracy_rows import accuracy_row
from fedclip_plugin.study.tables.bootstrap import Interval, interval
from fedclip_plugin.study.tables.statistics import Spread, over_domains, spread
from tests.support.study_samples import sample_results


@dataclass(frozen=True, eq=False)
class Paired:
    """Differences of correctness for some images of one domain, from one federation."""

    images: np.ndarray
    difference: np.ndarray


def paired(difference, images=None):
    difference = np.asarray(difference)
    return Paired(np.arange(len(difference)) if images is None else np.asarray(images), difference)


def answers(one):
    """Answer so that the differences come about: labels are 0, and another label is wrong."""
    zero_shot, selected = np.where(one.difference > 0, 1, 0), np.where(one.difference < 0, 1, 0)
    return KeptAnswers.of("d", np.zeros(len(one.difference), dtype=int), zero_shot, selected, one.images)


def kinds(domains):
    return [kinds_of([answers(one) for one in federations]) for federations in domains]


def naive(domains, resamples=4000, seed=1):
    """Resample image by image in a loop: slow, and plainly what is meant."""
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(resamples):
        means = []
        for federations in domains:
            images = np.unique(np.concatenate([one.images for one in federations]))
            times = np.bincount(rng.integers(len(images), size=len(images)), minlength=len(images))
            total = weight = 0.0
            for one in federations:
                own = times[np.searchsorted(images, one.images)]
                total += (own * one.difference).sum() / len(one.images)
                weight += own.sum() / len(one.images)
            means.append(total / weight)
        drawn.append(np.mean(means))
    return np.quantile(drawn, [0.025, 0.975])


def test_spread_is_the_sample_deviation_and_none_for_one_seed():
    assert spread([0.7, 0.8, 0.9]) == Spread(pytest.approx(0.8), pytest.approx(0.1))
    assert spread([0.7]) == Spread(0.7, None)
    assert spread([]) is None


def test_deviation_over_seeds_is_that_of_the_mean_over_targets():
    found = over_domains({"a": {0: 0.5, 1: 0.7, 2: 0.1}, "b": {0: 0.7, 1: 0.5}}, (0, 1))
    assert found == Spread(pytest.approx(0.6), pytest.approx(0.0))
    assert over_domains({}, (0, 1)) is None
    assert over_domains({"a": {}}, ()) is None


def test_the_interval_agrees_with_resampling_in_a_loop():
    rng = np.random.default_rng(3)
    splits = [rng.permutation(90)[:40] for _ in range(3)]  # overlapping test splits of three seeds
    domains = [
        [paired(rng.choice([-1, 0, 1], 40, p=[0.1, 0.7, 0.2]), split) for split in splits],
        [paired(rng.choice([-1, 0, 1], 60, p=[0.1, 0.6, 0.3])) for _ in range(2)],
    ]
    found = interval(kinds(domains))
    expected = np.mean([np.mean([one.difference.mean() for one in federations]) for federations in domains])
    assert found.mean == pytest.approx(expected)
    assert [found.low, found.high] == pytest.approx(naive(domains), abs=0.006)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, truth, trials = np.random.default_rng(0), 0.03, 300
    covered = 0
    for _ in range(trials):
        domains = [[paired(rng.choice([-1, 0, 1], 280, p=[0.06, 0.85, 0.09])) for _ in range(1)] for _ in range(4)]
        found = interval(kinds(domains), resamples=1000)
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / trials <= 0.98


def test_seeds_on_the_same_images_narrow_nothing_that_images_decide():
    difference = np.random.default_rng(0).choice([-1, 0, 1], 400, p=[0.1, 0.75, 0.15])
    one, three = (interval(kinds([[paired(difference)] * times])) for times in (1, 3))
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_the_same_results_give_the_same_interval_and_many_images_are_no_burden():
    rng = np.random.default_rng(0)
    domains = [[paired(rng.choice([-1, 0, 1], 100_000)) for _ in range(3)] for _ in range(6)]
    told = kinds(domains)
    began = time.perf_counter()
    found = interval(told)
    assert time.perf_counter() - began < 5
    assert interval(told) == found
    assert interval([]) is None


def test_images_are_told_of_by_their_kinds_only():
    """Two federations, three images each, of which they have two in common."""
    first = KeptAnswers.of("d", [0, 0, 0], [0, 1, 1], [0, 0, 1], positions=[4, 5, 6])
    second = KeptAnswers.of("d", [0, 0, 0], [0, 0, 0], [1, 0, 0], positions=[4, 5, 7])
    assert kinds_of([first]) == first.counts().kinds() == Kinds(gain=(0, 1), tried=(1, 1), images=(2, 1))
    assert kinds_of([first, second]) == Kinds(gain=(-1, 0, 1), tried=(2, 1, 2), images=(1, 2, 1))
    several = KeptAnswers.of("d", [0, 0, 0], [0, 1, 1], [[0, 0, 1], [1, 0, 1]])
    assert (several.counts().zero_shot_right, several.counts().zero_shot_wrong) == ((0, 1, 0), (1, 0, 1))
    assert (several.counts().accuracy(), several.counts().zero_shot_accuracy()) == (0.5, pytest.approx(1 / 3))
    assert kinds_of([several]) == several.counts().kinds()


def test_what_is_told_of_many_images_does_not_grow_with_them():
    rng = np.random.default_rng(0)
    told = kinds([[paired(rng.choice([-1, 0, 1], 50_000)) for _ in range(3)]])[0]
    assert len(told.images) == 7
    assert sum(told.images) == 50_000


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Interval(0.02, 0.01, 0.03), "gain"),
        (Interval(-0.02, -0.03, -0.01), "loss"),
        (Interval(0.02, -0.001, 0.03), "no difference"),
        (Interval(0.02, 0.0, 0.03), "no difference"),
        (Interval(0.0, 0.0, 0.0), "no difference"),
    ],
)
def test_a_difference_inside_the_noise_is_none(difference, verdict):
    assert difference.verdict == verdict


@pytest.mark.parametrize(("case", "verdict"), [("fedclip", "gain"), ("clip_adapter", "loss")])
def test_figures_agree_with_the_accuracies_of_the_cells(case, verdict, tmp_path):
    findings = sample_results(tmp_path / "s")
    cells = findings.of_case(case)
    own, sources = accuracy_row(findings, case, "generalization"), accuracy_row(findings, case, "personalization")
    assert (len(cells), own.seeds) == (12, (0, 1, 2))
    assert own.selected.mean.mean == pytest.approx(np.mean([cell.target_accuracy.selected for cell in cells]))
    assert sources.last.mean.mean == pytest.approx(np.mean([cell.source_mean("last") for cell in cells]))
    for found in (own, sources):
        gain = found.selected.mean.mean - found.zero_shot.mean.mean
        assert found.difference.mean == pytest.approx(gain)
        assert np.mean([found.by_domain[name].mean for name in found.by_domain]) == pytest.approx(gain)
    assert own.difference.verdict == verdict
    assert own.personal is None
    assert sources.personal is None
    assert sources.difference.high - sources.difference.low > own.difference.high - own.difference.low  # fewer images


def test_a_missing_target_leaves_no_mean_over_targets(tmp_path):
    findings = sample_results(tmp_path / "s")
    gone = {name for name in findings.results if name.startswith("fedclip/photo/")}
    findings = replace(findings, results={name: cell for name, cell in findings.results.items() if name not in gone})
    found = accuracy_row(findings, "fedclip", "generalization")
    assert list(found.selected.domains) == ["art_painting", "cartoon", "sketch"]
    assert (found.selected.mean, found.difference, found.seeds) == (None, None, ())
