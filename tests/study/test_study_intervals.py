"""Intervals over other seeds and other images: known answers, coverage by simulation, and several cases at once."""

import numpy as np
import pytest
from scipy.special import stdtrit

from fedclip_plugin.study import Kinds
from fedclip_plugin.study.statistics.intervals import DomainCounts, Estimate, estimate, together


def domain(rows, images=None):
    """Count gains: a list of ``[federations, N]`` by seed; images are the same with each seed unless told."""
    images = [np.arange(each.shape[1]) for each in rows] if images is None else images
    gain, tried = (np.zeros(1 + max(each.max() for each in images), dtype=int) for _ in range(2))
    for own, each in zip(images, rows, strict=True):
        gain[own] += each.sum(0)
        tried[own] += len(each)
    tested = tried > 0
    by_seed = {seed: [Kinds.of(row, np.ones_like(row)) for row in each] for seed, each in enumerate(rows)}
    return DomainCounts(Kinds.of(gain[tested], tried[tested]), by_seed)


def chances(rng, images):
    """Draw what an image gains and loses with: most stay as they are, and a tenth is hard."""
    odds = np.where(rng.random(images) < 0.1, 0.25 + 0.5 * rng.random(images), 0.03)
    gains = rng.random(images) < 0.62
    return np.where(gains, odds, 0.02), np.where(gains, 0.02, odds)


TRUTH = (0.62 - 0.38) * (0.1 * 0.5 + 0.9 * 0.03 - 0.02)


def gains(rng, odds, shift, federations=1):
    """Draw what is gained for each image, ``[federations, N]``; the federations of a seed mostly agree."""
    up, down = odds
    first = rng.random(len(up))
    drawn = np.where(rng.random((federations, len(up))) < 0.8, first, rng.random((federations, len(up))))
    return (drawn < up + shift / 2).astype(int) - (drawn > 1 - down + shift / 2)


def unseen(rng, deviation, seeds=5, images=400, domains=2):
    """Draw a study's target domains: each seed tests all images, and shifts all of a domain."""
    shifts = np.clip(rng.normal(0, deviation, (domains, seeds)), -0.038, 0.038)
    odds = [chances(rng, images) for _ in range(domains)]
    return [domain([gains(rng, own, shift) for shift in shifts[k]]) for k, own in enumerate(odds)]


def of_silos(rng, deviation, seeds=5, images=400, domains=2):
    """Draw the silos' own test splits: a fifth of the images with each seed, in three federations."""
    found = []
    for _ in range(domains):
        up, down = chances(rng, images)
        splits = [rng.permutation(images)[: images // 5] for _ in range(seeds)]
        shifts = np.clip(rng.normal(0, deviation, seeds), -0.038, 0.038)
        rows = [gains(rng, (up[own], down[own]), shift, 3) for own, shift in zip(splits, shifts, strict=True)]
        found.append(domain(rows, splits))
    return found


def covered(draw, trials, **settings):
    rng, held = np.random.default_rng(1), 0
    for _ in range(trials):
        found = estimate(draw(rng, **settings))
        low, high = found.ends(0.95)
        held += low <= TRUTH <= high
    return held / trials


def test_the_error_is_that_of_the_analysis_of_variance():
    """Worked by hand from the mean squares of images, seeds and the rest of a two-way layout."""
    gain = np.array([[1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1], [1, 0, -1, 0, 1, 1]])  # a seed a row
    seeds, images = gain.shape
    mean = gain.mean()
    of_seeds = images * ((gain.mean(1) - mean) ** 2).sum() / (seeds - 1)
    of_images = seeds * ((gain.mean(0) - mean) ** 2).sum() / (images - 1)
    rest = gain - gain.mean(1)[:, None] - gain.mean(0) + mean
    of_rest = (rest**2).sum() / (seeds - 1) / (images - 1)
    found = estimate([domain([row[None] for row in gain])])
    assert (found.mean, found.seeds) == (pytest.approx(mean), 3)
    assert found.error**2 == pytest.approx((of_seeds + of_images - of_rest) / (seeds * images))


def test_one_seed_tells_of_images_alone():
    gain = np.array([1, 0, 0, -1, 1, 1, 0, 0])
    found = estimate([domain([gain[None]])])
    assert found == Estimate(pytest.approx(gain.mean()), pytest.approx(gain.std(ddof=1) / np.sqrt(8)), 7, 1)
    assert estimate([]) is None


def test_seeds_that_all_answer_alike_add_nothing():
    gain = np.random.default_rng(0).choice([-1, 0, 1], 400, p=[0.1, 0.75, 0.15])[None]
    one, three = estimate([domain([gain])]), estimate([domain([gain] * 3)])
    assert three.error == pytest.approx(one.error)
    assert (one.seeds, three.seeds) == (1, 3)


def test_domains_count_alike_and_no_gain_anywhere_is_certain():
    none = np.zeros((1, 9), dtype=int)
    gain = np.array([[1, 0, 0, 0]])
    assert estimate([domain([none] * 2), domain([gain] * 2)]).mean == pytest.approx(0.125)
    found = estimate([domain([none] * 2)])
    assert (found.error, found.p_value, found.ends(0.95)) == (0.0, 1.0, (0.0, 0.0))
    sure = estimate([domain([none + 1] * 2)])
    assert (sure.mean, sure.p_value, sure.ends(0.95)) == (1.0, 0.0, (1.0, 1.0))


def test_a_test_split_kept_for_all_seeds_is_told_no_more_narrowly_than_it_is():
    """What one seed gained in its three federations cannot be told then: its share is counted twice."""
    rng = np.random.default_rng(2)
    rows = [rng.choice([-1, 0, 1], (3, 50)) for _ in range(4)]
    found = estimate([domain(rows)])
    exact = estimate(
        [DomainCounts(domain(rows).together, {s: (Kinds.of(r.sum(0), [3] * 50),) for s, r in enumerate(rows)})]
    )
    assert found.error > exact.error > 0


@pytest.mark.parametrize("draw", [unseen, of_silos])
@pytest.mark.parametrize("deviation", [0.0, 0.015])
def test_intervals_of_five_seeds_hold_the_truth_about_as_often_as_they_say(draw, deviation):
    assert 0.9 <= covered(draw, 80, deviation=deviation) <= 0.99


def test_without_the_seeds_an_interval_would_be_too_narrow():
    domains = unseen(np.random.default_rng(1), 0.03, images=1000)
    alone = [DomainCounts(one.together, {0: [one.together]}) for one in domains]
    assert estimate(domains).error > 1.3 * estimate(alone).error


def test_verdicts_step_down_and_intervals_hold_together():
    """Holm's own steps: 0.05 / 4 passes, 0.05 / 3 passes, 0.05 / 2 fails, and so the last fails too."""
    freedom = 9.0
    errors = [1 / stdtrit(freedom, 1 - p / 2) for p in (0.04, 0.002, 0.016, 0.03)]
    found = together([Estimate(-1.0 if n == 2 else 1.0, error, freedom, 5) for n, error in enumerate(errors)])
    assert [one.verdict for one in found] == ["no difference", "gain", "loss", "no difference"]
    assert [one.p_value for one in found] == pytest.approx([0.04, 0.002, 0.016, 0.03])
    assert found[1].low == pytest.approx(1 - errors[1] * stdtrit(freedom, 1 - 0.05 / 8))
    assert found[2].high > 0, "Bonferroni's interval is wider than Holm's step"
    assert {one.comparisons for one in found} == {4}
    alone = together([Estimate(1.0, errors[0], freedom, 5)])
    assert (alone[0].verdict, alone[0].low > 0) == ("gain", True)
    assert together([]) == []


def test_of_many_cases_without_any_gain_hardly_a_study_has_one_told():
    rng, wrong, trials = np.random.default_rng(3), 0, 60
    for _ in range(trials):
        errors = np.sqrt(rng.chisquare(4, 12) / 4)
        cases = [
            Estimate(float(mean), float(error), 4, 5) for mean, error in zip(rng.normal(size=12), errors, strict=True)
        ]
        wrong += any(one.verdict != "no difference" for one in together(cases))
    assert 0 < wrong / trials <= 0.12
