"""The sensitivity of sums is exact, the noise is that of the account, and what is made of it can be solved and sent."""

import math

import pytest
import torch

from fedclip_plugin.features import FeatureSet
from fedclip_plugin.federated.privacy.noisy_sums import SumNoise
from fedclip_plugin.federated.privacy.secret_random import KEY_BYTES, SecretRandom
from fedclip_plugin.methods.closed_form.adapters import Gaussian, Ridge
from fedclip_plugin.methods.closed_form.feature_sums import Statistics

WIDTH, CLASSES, IMAGES = 16, 3, 30


def images(count=IMAGES):
    features = 7 * torch.randn(IMAGES, WIDTH, generator=torch.Generator().manual_seed(3))
    return FeatureSet(features[:count], torch.arange(IMAGES)[:count] % CLASSES)


def secret():
    return SecretRandom(bytes(range(KEY_BYTES)))


@pytest.mark.parametrize("gram", [True, False])
def test_an_image_changes_what_is_noisy_by_one_over_the_multiplier(gram):
    noise, multiplier = SumNoise.of(2.5, gram), 2.5
    change = Statistics.of(images(), CLASSES, gram) - Statistics.of(images(IMAGES - 1), CLASSES, gram)
    parts = [change.counts / noise.counts, change.sums.flatten() / noise.sums]
    if gram:
        weight = torch.full_like(change.gram, math.sqrt(2))
        weight[Statistics.diagonal(WIDTH)] = 1.0
        parts.append(change.gram * weight / noise.gram)
    assert float(torch.cat(parts).norm()) == pytest.approx(1 / multiplier, rel=1e-6)


def test_the_noise_has_the_deviations_that_are_told():
    noise, empty = SumNoise.of(4.0, True), Statistics.none(50, 100, True)
    found = noise.added(empty, secret())
    diagonal = torch.zeros(len(empty.gram), dtype=torch.bool)
    diagonal[Statistics.diagonal(100)] = True
    assert float(found.sums.std()) == pytest.approx(noise.sums, rel=0.03)
    assert float(found.gram[~diagonal].std()) == pytest.approx(noise.gram / math.sqrt(2), rel=0.03)
    assert float(found.gram[diagonal].std()) == pytest.approx(noise.gram, rel=0.25)
    assert int((found.counts > 0).sum()) <= 5, "classes without images are taken for absent"


@pytest.mark.parametrize("multiplier", [0.5, 5.0, 500.0])
def test_noisy_sums_travel_pass_the_servers_check_and_can_be_solved(multiplier):
    noise = SumNoise.of(multiplier, True)
    found = noise.added(Statistics.of(images(), CLASSES, True), secret())
    arrived = Statistics.from_wire(found.to_wire())
    assert torch.equal(arrived.counts, found.counts)
    assert torch.allclose(arrived.gram, found.gram, atol=1e-6 * float(found.gram.abs().max()))
    assert arrived.fault(IMAGES, noise) is None
    for method in (Ridge, Gaussian):
        for penalty in method.penalties:
            assert bool(torch.isfinite(method.solve(arrived, penalty).weights).all())


def test_sums_beyond_what_noise_makes_are_refused():
    noise = SumNoise.of(0.5, True)
    own = Statistics.of(images(), CLASSES, True)
    assert "counts" in own.plus(own, 3.0).fault(IMAGES, noise)
    assert "longer" in Statistics(own.counts, 100 * own.sums, own.gram).fault(IMAGES, noise)
    assert "trace" in Statistics(own.counts, own.sums, 100 * own.gram).fault(IMAGES, noise)
