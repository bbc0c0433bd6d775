"""Epsilon against a second accountant, which is worked out here by another way."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from fedclip_plugin.federated.privacy.accountant import Mechanism, gaussian_epsilon, noise_multiplier_for

PLD = {  # noise multiplier, rate, steps: epsilon for delta 1e-5 by dp-accounting 0.6.0
    (1.0, 0.1, 200): 9.97132,
    (5.0, 0.1, 200): 1.09833,
    (0.7, 0.6, 30): 39.72571,
    (2.0, 0.05, 1000): 3.70020,
    (20.0, 0.1, 200): 0.23584,
}
"""Its ``from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=1e-3)``, then
``self_compose(steps)`` and ``get_epsilon_for_delta(1e-5)``, with ``use_connect_dots=True``. It cannot be installed
beside attrs 26."""


def second_epsilon(noise, rate, steps, delta, mesh=4e-4):
    """Compose the privacy loss of removing an image, rounded to a grid, by Fourier transforms.

    The loss at x ~ (1 - q) N(0, s^2) + q N(1, s^2) is ``log(1 - q + q exp((2 x - 1) / (2 s^2)))``.
    """
    points = np.linspace(-12 * noise, 1 + 12 * noise, 400_001)
    mass = np.diff((1 - rate) * ndtr(points / noise) + rate * ndtr((points - 1) / noise))
    loss = np.log1p(rate * np.expm1((2 * points[1:] - 1) / (2 * noise**2)))
    size = 2**18
    places = np.rint(loss / mesh).astype(int)
    once = np.bincount(places % size, mass, size)
    total = np.fft.irfft(np.fft.rfft(once) ** steps, size)
    values = mesh * np.where(np.arange(size) < size // 2, np.arange(size), np.arange(size) - size)
    order = np.argsort(values)
    values, total = values[order], total[order]

    def beyond(epsilon):
        above = values > epsilon
        return float((total[above] * -np.expm1(epsilon - values[above])).sum()) - delta

    return brentq(beyond, 0, values[-1])


@pytest.mark.parametrize("case", list(PLD))
def test_epsilon_is_that_of_two_other_accountants_within_one_percent(case):
    noise, rate, steps = case
    own = Mechanism(noise, rate, steps // 10).epsilon(10, 1e-5, 10)
    assert own == pytest.approx(PLD[case], rel=0.01)
    assert own >= 0.9995 * PLD[case], "what is told is an upper bound"
    if PLD[case] < 20:
        assert own == pytest.approx(second_epsilon(noise, rate, steps, 1e-5), rel=0.01)


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (3.0, 20), (30.0, 200), (0.5, 1)])
def test_where_all_images_are_in_all_steps_epsilon_is_exact(noise, steps):
    own, mu = Mechanism(noise, 1.0, steps).epsilon(1, 1e-5), math.sqrt(steps) / noise
    delta = ndtr(mu / 2 - own / mu) - math.exp(own + log_ndtr(-mu / 2 - own / mu))
    assert delta == pytest.approx(1e-5, rel=1e-6)


def test_epsilon_grows_with_rounds_and_is_nothing_before_the_first():
    mechanism = Mechanism(1.5, 0.2, 5)
    found = [mechanism.epsilon(rounds, 1e-5, 6) for rounds in range(7)]
    assert found[0] == 0.0
    assert all(before < after for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("target", "rate", "steps", "rounds"), [(3.0, 0.2, 5, 10), (8.0, 0.1, 10, 4), (1.0, 1.0, 1, 1)]
)
def test_the_noise_for_a_target_just_meets_it(target, rate, steps, rounds):
    noise = noise_multiplier_for(target, 1e-5, rate, steps, rounds)
    assert 0.985 * target < Mechanism(noise, rate, steps).epsilon(rounds, 1e-5, rounds) <= target
    assert gaussian_epsilon(1e-9, 1e-5) == 0.0
