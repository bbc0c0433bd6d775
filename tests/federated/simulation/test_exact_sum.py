"""The sum of a round's updates does not depend on how it is divided."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from fedclip_plugin.federated.simulation.exact_sum import LARGEST, QUANTUM, ExactSum

RNG = torch.Generator().manual_seed(0)
HELD = OrderedDict(weight=torch.randn(7, 5, generator=RNG), bias=torch.randn(3, generator=RNG))


def updates(count):
    return [
        OrderedDict((name, held + 0.01 * torch.randn(held.shape, generator=RNG)) for name, held in HELD.items())
        for _ in range(count)
    ]


def summed(pairs):
    total = ExactSum(HELD)
    for update, share in pairs:
        assert total.add(update, share) is None
    return total


def test_any_order_and_any_division_give_the_same_bits():
    weights = np.random.default_rng(0).integers(1, 500, 40)
    pairs = [(update, float(own / weights.sum())) for update, own in zip(updates(40), weights, strict=True)]
    whole = summed(pairs).moved([summed(pairs).total], 1.0)
    for parts in (2, 3, 7):
        shuffled = [pairs[index] for index in np.random.default_rng(parts).permutation(40)]
        divided = [summed(shuffled[part::parts]).total for part in range(parts)]
        again = ExactSum(HELD).moved(divided, 1.0)
        assert all(torch.equal(again[name], whole[name]) for name in HELD)


def test_the_sum_is_the_weighted_mean():
    own = updates(5)
    shares = [0.1, 0.2, 0.3, 0.15, 0.05]  # 0.8 of the weights: the rest was lost
    moved = ExactSum(HELD).moved([summed(zip(own, shares, strict=True)).total], 0.8)
    for name, held in HELD.items():
        mean = sum(share * update[name].double() for update, share in zip(own, shares, strict=True)) / 0.8
        assert torch.allclose(moved[name].double(), mean, atol=2e-7, rtol=1e-7)
        assert moved[name].shape == held.shape
        assert moved[name].dtype == held.dtype


@pytest.mark.parametrize("change", [LARGEST, -LARGEST, float("inf"), float("nan")])
def test_what_is_too_large_to_be_summed_is_a_fault(change):
    update = OrderedDict((name, held.clone()) for name, held in HELD.items())
    update["bias"][1] += change
    total = ExactSum(HELD)
    assert "bias changed by 4096 or more in one round" in total.add(update, 0.5)
    assert not total.total.any()


def test_the_largest_sum_is_still_exact():
    held = OrderedDict(weight=torch.zeros(1))
    total = ExactSum(held)
    near = OrderedDict(weight=torch.tensor([LARGEST - 1]))
    for _ in range(1000):
        assert total.add(near, 1 / 1000) is None
    assert abs(total.total[0]) < 2**53
    assert total.moved([total.total], 1.0)["weight"].item() == pytest.approx(LARGEST - 1, abs=1000 * QUANTUM)


def test_many_at_once_have_the_bits_of_one_after_the_other():
    own, shares = updates(6), [0.1, 0.3, 0.05, 0.2, 0.15, 0.2]
    own[2]["bias"][0] = float("nan")
    rows = {name: torch.stack([update[name] for update in own]) for name in HELD}
    together = ExactSum(HELD)
    faults = together.add_rows(rows, shares)
    assert [fault is None for fault in faults] == [True, True, False, True, True, True]
    kept = [(update, share) for index, (update, share) in enumerate(zip(own, shares, strict=True)) if index != 2]
    assert np.array_equal(together.total, summed(kept).total)
