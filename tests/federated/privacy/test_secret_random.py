"""The source of noise: nobody's seed, and of the right distribution."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from fedclip_plugin.federated.privacy.secret_random import KEY_BYTES, SecretRandom

KEY = bytes(range(KEY_BYTES))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_numbers_are_normal_and_independent(dtype):
    found = SecretRandom(KEY).normal(200_001, dtype)
    assert found.shape == (200_001,) and found.dtype == dtype
    assert kstest(found.numpy(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(found[:100_000].numpy(), found[100_000:200_000].numpy())[0, 1]) < 0.02
    assert abs(np.corrcoef(found[:-1].numpy(), found[1:].numpy())[0, 1]) < 0.02


def test_no_two_sources_are_alike_and_no_seed_is_theirs():
    torch.manual_seed(0)
    first = SecretRandom().normal(1000)
    torch.manual_seed(0)
    assert not torch.equal(first, SecretRandom().normal(1000))
    assert torch.equal(SecretRandom(KEY).normal(1000), SecretRandom(KEY).normal(1000))


def test_the_global_generators_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    own = SecretRandom()
    own.normal(10), own.sample(10, 0.5), own.generator().random(3)
    assert torch.equal(expected[0], torch.rand(3))
    assert np.array_equal(expected[1], np.random.rand(3))


def test_a_poisson_sample_has_each_image_with_its_probability():
    own = SecretRandom(KEY)
    counts, sizes = np.zeros(50), []
    for _ in range(4000):
        chosen = own.sample(50, 0.1).numpy()
        counts[chosen] += 1
        sizes.append(len(chosen))
    assert np.abs(counts / 4000 - 0.1).max() < 0.025
    assert np.var(sizes) == pytest.approx(50 * 0.1 * 0.9, rel=0.1)
    assert 0 in sizes, "empty samples happen"
