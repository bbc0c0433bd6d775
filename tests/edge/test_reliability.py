"""Reliability against examples worked out by hand."""

import math

import numpy as np
import pytest

from fedclip_edge.reliability import BINS, reliability


def test_the_calibration_error_of_an_example_worked_out_by_hand():
    """Five bins; (0.2, 0.4] holds 0.3 wrong and 0.4 right, (0.8, 1] holds 0.9 right, 1.0 right, 0.95 wrong."""
    confidence = np.array([0.3, 0.4, 0.9, 1.0, 0.95])
    found = reliability(confidence, np.array([False, True, True, True, False]), bins=5)
    assert found.counts.tolist() == [0, 2, 0, 0, 3]
    assert found.accuracy[[1, 4]].tolist() == pytest.approx([1 / 2, 2 / 3])
    assert found.confidence[[1, 4]].tolist() == pytest.approx([0.35, 0.95])
    assert np.isnan(found.accuracy[[0, 2, 3]]).all()
    assert found.error == pytest.approx((2 * 0.15 + 3 * (0.95 - 2 / 3)) / 5)


def test_a_confidence_on_the_edge_belongs_to_the_bin_below():
    edges = np.arange(1, BINS + 1) / BINS
    found = reliability(edges, np.ones(BINS, bool))
    assert found.counts.tolist() == [1] * BINS
    assert reliability(np.nextafter(edges[:-1], 1), np.ones(BINS - 1, bool)).counts.tolist() == [0] + [1] * (BINS - 1)


def test_answers_that_are_right_as_often_as_they_claim_have_no_error():
    confidence, correct = np.full(10, 0.7), np.arange(10) < 7
    assert reliability(confidence, correct).error == pytest.approx(0)
    assert reliability(np.ones(4), np.zeros(4, bool)).error == 1


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.2, 0.5, 0.95, 1.0])
def test_the_error_by_chance_is_the_mean_over_all_ways_to_be_right(rate):
    """Four images of one confidence: the deviation of each number of right answers, by how likely it is."""
    likely = [math.comb(4, right) * rate**right * (1 - rate) ** (4 - right) for right in range(5)]
    wanted = sum(part * abs(right / 4 - rate) for right, part in enumerate(likely))
    assert reliability(np.full(4, rate), np.ones(4, bool)).chance == pytest.approx(wanted, abs=1e-12)


def test_the_error_by_chance_is_what_perfect_classifiers_have_on_average():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1.0, 300)
    errors = [reliability(confidence, rng.uniform(size=300) < confidence).error for _ in range(400)]
    chance = reliability(confidence, np.ones(300, bool)).chance
    assert chance == pytest.approx(np.mean(errors), rel=0.03)
    many = reliability(np.tile(confidence, 100), np.ones(30_000, bool))
    assert many.chance == pytest.approx(chance / 10, rel=0.03)
