"""Temperature and threshold against what they are defined by, and sums that are the same in any order."""

import json

import numpy as np
import pytest

from fedclip_edge import calibration
from fedclip_edge.calibration import Calibration, is_calibration

GOOD = {"temperature": 1.5, "threshold": 0.4, "false_reject_rate": 0.05, "images": 336}


def drawn(count=4000, temperature=2.5, classes=5, seed=0):
    """Return logits that are ``temperature`` times too large for the labels drawn from them."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (count, classes))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = (rng.random((count, 1)) > shares.cumsum(1)).sum(1)
    return (temperature * honest).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.5])
def test_the_temperature_that_was_put_in_is_found(temperature):
    logits, labels = drawn(temperature=temperature)
    assert calibration.fitted_temperature(calibration.likelihoods(logits, labels)) == pytest.approx(
        temperature, rel=0.05
    )


def test_likelihoods_are_those_of_the_softmax():
    logits, labels = drawn(50)
    at = calibration.TEMPERATURES.index(1.0)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = -np.log(shares[np.arange(50), labels]).sum()
    assert calibration.likelihoods(logits, labels)[at] / 1e6 == pytest.approx(wanted, abs=1e-4)


def test_sums_are_the_same_however_images_are_shared_out():
    logits, labels = drawn(300)
    order = np.random.default_rng(1).permutation(300)
    for chosen in (np.arange(300), order):
        parts = np.array_split(chosen, 7)
        assert np.array_equal(
            sum(calibration.likelihoods(logits[part], labels[part]) for part in parts),
            calibration.likelihoods(logits, labels),
        )
        assert np.array_equal(
            sum(calibration.confidence_counts(logits[part], 1.7) for part in parts),
            calibration.confidence_counts(logits, 1.7),
        )


def test_where_every_answer_is_right_the_lowest_temperature_is_taken():
    logits = 5 * np.eye(3, dtype=np.float32)
    assert calibration.fitted_temperature(calibration.likelihoods(logits, np.arange(3))) == calibration.TEMPERATURES[0]


def test_confidences_are_the_largest_probabilities():
    logits, _ = drawn(40)
    shares = np.exp(logits / 2.0) / np.exp(logits / 2.0).sum(1, keepdims=True)
    assert calibration.confidences(logits, 2.0) == pytest.approx(shares.max(1), rel=1e-5)
    assert calibration.confidences(logits[:, :1], 2.0).tolist() == [1.0] * 40, "one label is always right"


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("scale", [0.3, 1.0, 8.0])
def test_a_share_of_the_images_is_below_the_threshold(rate, scale):
    logits, _ = drawn(4000)
    counts = calibration.confidence_counts(scale * logits, 1.0)
    threshold = calibration.threshold_at(counts, rate)
    exact = float((calibration.confidences(scale * logits, 1.0) < threshold).mean())
    assert exact == pytest.approx(rate, abs=0.005)
    assert calibration.share_below(counts, threshold) == exact
    assert calibration.threshold_at(counts, 0.0) == 0.0 == calibration.share_below(counts, 0.0)


def test_few_images_are_refused_with_the_rule():
    assert [calibration.least_images(rate) for rate in (0, 0.01, 0.05, 0.5)] == [20, 200, 40, 20]
    assert calibration.too_few(40, 0.05) is None
    told = calibration.too_few(39, 0.05)
    assert told is not None and "39 labelled images are too few" in told and "5 % takes 40 or more" in told


def test_the_area_under_the_curve_counts_pairs():
    known, others = np.array([0.9, 0.5, 0.4]), np.array([0.5, 0.1])
    pairs = [(a > b) + 0.5 * (a == b) for a in known for b in others]
    assert calibration.ranked_above(known, others) == pytest.approx(np.mean(pairs))


def test_a_calibration_is_the_same_after_json():
    made = Calibration(**GOOD)
    assert Calibration.of(json.loads(json.dumps(made.to_json()))) == made
    assert is_calibration(made.to_json())


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0},
        {"temperature": float("nan")},
        {"temperature": 1e7},
        {"temperature": True},
        {"threshold": 1},
        {"threshold": -0.1},
        {"threshold": "0.4"},
        {"false_reject_rate": 1.0},
        {"images": 0},
        {"images": 3.0},
        {"images": True},
        {"more": 1},
    ],
)
def test_what_is_no_calibration_is_known(changes):
    assert is_calibration(GOOD) and not is_calibration(GOOD | changes)
    assert not is_calibration({key: value for key, value in GOOD.items() if key != "images"})
    assert not is_calibration([1, 2])
