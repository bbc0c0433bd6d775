"""Reliability against examples worked out by hand."""

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
