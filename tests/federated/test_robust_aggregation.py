"""The rules of robust aggregation against numpy and scipy, and what they make of updates that are no honest ones."""

import itertools
from collections import OrderedDict

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.roles import update_matrix
from fedclip_plugin.federated.roles.robust_aggregation import RULES, RobustAggregation, geometric_median
from fedclip_plugin.federated.roles.update_matrix import UpdateMatrix

SHAPES = {"gate.weight": (5, 7), "gate.bias": (7,), "empty": (0,), "scale": ()}
SIZE = 5 * 7 + 7 + 1
DEFENCES = sorted(set(RULES) - {"none"})


def tensors(vector):
    """Return a vector ``[d]`` as named float32 tensors."""
    found, start = OrderedDict(), 0
    for name, shape in SHAPES.items():
        count = int(np.prod(shape))
        found[name] = torch.tensor(vector[start : start + count], dtype=torch.float32).reshape(shape)
        start += count
    return found


def vector(named):
    return torch.cat([tensor.reshape(-1) for tensor in named.values()]).double().numpy()


def drawn(silos, seed=0, size=0.1):
    """Return what is held, and updates of silos around a common direction, ``[n, d]``."""
    rng = np.random.default_rng(seed)
    held, common = rng.normal(size=SIZE).astype(np.float32), rng.normal(size=SIZE)
    changes = size * (common + rng.normal(size=(silos, SIZE)))
    return held, changes


def sent(held, changes, weights=None):
    weights = weights or [1.0] * len(changes)
    return [(weight, tensors(held + change)) for weight, change in zip(weights, changes, strict=True)]


def exact(held, updates):
    """Return the changes as float64, from the float32 parameters that were sent."""
    return np.stack([vector(own) - held.astype(np.float64) for _, own in updates])


def change(rule, held, updates):
    """Return the change that a rule makes of updates: its own, or the weighted mean of what it lets through."""
    found = rule.apply(tensors(held), updates).updates
    weights = np.array([weight for weight, _ in found])
    return weights / weights.sum() @ exact(held, found)


@pytest.fixture(params=[None, 16], ids=["whole", "in pieces"])
def pieces(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(update_matrix, "_PIECE", request.param)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("silos", [3, 4, 5, 8])
def test_the_median_and_the_trimmed_mean_are_those_of_numpy_and_scipy(silos):
    held, changes = drawn(silos)
    updates = sent(held, changes)
    known = exact(held, updates)
    median = change(RobustAggregation("median"), held, updates)
    assert np.abs(median - np.median(known, axis=0)).max() < 3e-7
    for bad in range(1, (silos + 1) // 2):
        trimmed = change(RobustAggregation("trimmed_mean", bad), held, updates)
        assert np.abs(trimmed - scipy.stats.trim_mean(known, bad / silos + 1e-9, axis=0)).max() < 3e-7


@pytest.mark.usefixtures("pieces")
def test_norms_and_inner_products_are_those_of_the_updates():
    held, changes = drawn(5)
    updates = sent(held, changes)
    known = exact(held, updates)
    matrix = UpdateMatrix(tensors(held), [own for _, own in updates])
    assert np.allclose(matrix.norms(), np.linalg.norm(known, axis=1), rtol=1e-6)
    assert np.allclose(matrix.gram(), known @ known.T, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("silos", "weights"), [(3, None), (4, None), (9, None), (5, [10.0, 20.0, 5.0, 40.0, 30.0])])
def test_the_geometric_median_has_the_least_sum_of_distances(silos, weights):
    held, changes = drawn(silos, seed=silos)
    updates = sent(held, changes, weights)
    known, shares = exact(held, updates), np.array(weights or [1.0] * silos)

    def cost(point):
        return float(shares @ np.linalg.norm(known - point, axis=1))

    best = scipy.optimize.minimize(
        cost, known.mean(axis=0), method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15}
    )
    found = change(RobustAggregation("geometric_median"), held, updates)
    assert cost(found) <= best.fun * (1 + 1e-7)
    assert np.linalg.norm(found - best.x) < 1e-3 * np.linalg.norm(best.x)


def test_the_geometric_median_of_points_of_which_one_is_the_median():
    wide = np.array([[0.0, 0.0], [1.0, 0.1], [-1.0, 0.1]])  # an angle above 120 degrees at the first
    assert np.linalg.norm(geometric_median(wide @ wide.T, np.full(3, 1 / 3)) @ wide) < 1e-5
    equal = np.ones((4, 2))
    assert geometric_median(equal @ equal.T, np.full(4, 0.25)) @ equal == pytest.approx([1, 1])
    assert geometric_median(np.zeros((3, 3)), np.full(3, 1 / 3)) == pytest.approx([1 / 3] * 3)


def krum_by_hand(known, bad):
    """Return the updates that multi-Krum averages, from its definition, with lists and loops."""
    silos = len(known)
    scores = []
    for i in range(silos):
        away = sorted(
            sum((a - b) ** 2 for a, b in zip(known[i], known[j], strict=True)) for j in range(silos) if j != i
        )
        scores.append((sum(away[: silos - bad - 2]), i))
    return sorted(index for _, index in sorted(scores)[: silos - bad - 2])


@pytest.mark.parametrize(("silos", "bad"), [(5, 1), (7, 2), (9, 2), (9, 3)])
def test_multi_krum_averages_the_updates_with_the_closest_neighbours(silos, bad):
    held, changes = drawn(silos, seed=silos + bad)
    changes[:bad] *= -20
    updates = sent(held, changes, [float(10 * (index + 1)) for index in range(silos)])
    known = exact(held, updates)
    chosen = krum_by_hand(known.tolist(), bad)
    rule = RobustAggregation("multi_krum", bad)
    assert np.abs(change(rule, held, updates) - known[chosen].mean(axis=0)).max() < 3e-7
    left_out = rule.apply(tensors(held), updates).outliers
    assert sorted(left_out) == [index for index in range(silos) if index not in chosen]
    assert set(range(bad)) <= set(left_out)


def test_an_update_within_the_bound_is_the_very_one_that_came():
    held, changes = drawn(4)
    changes[1] *= 4
    updates = sent(held, changes)
    before = [{name: tensor.clone() for name, tensor in own.items()} for _, own in updates]
    found = RobustAggregation("norm_bound").apply(tensors(held), updates)
    assert found.outliers == {}
    assert all(ours is theirs for (_, ours), (_, theirs) in zip(found.updates, updates, strict=True))
    assert all(torch.equal(own[name], old[name]) for (_, own), old in zip(updates, before, strict=True) for name in old)


def test_an_update_beyond_the_bound_is_named_and_keeps_its_direction_and_weight():
    held, changes = drawn(3)
    changes[2] *= 1e6
    updates = sent(held, changes, [5.0, 6.0, 7.0])
    found = RobustAggregation("norm_bound", factor=4.0).apply(tensors(held), updates)
    assert list(found.outliers) == [2]
    assert "more than 4 times the round's median" in found.outliers[2]
    known, bounded = exact(held, updates), exact(held, found.updates)
    assert np.linalg.norm(bounded[2]) == pytest.approx(4 * np.median(np.linalg.norm(known, axis=1)), rel=1e-4)
    cosine = bounded[2] @ known[2] / np.linalg.norm(bounded[2]) / np.linalg.norm(known[2])
    assert cosine == pytest.approx(1, abs=1e-6)
    assert [weight for weight, _ in found.updates] == [5.0, 6.0, 7.0]
    assert found.updates[0][1] is updates[0][1]
    assert np.abs(exact(held, updates)[2]).max() > 1e4, "what came is left alone"


def test_one_or_two_updates_have_no_median_to_go_by():
    held, changes = drawn(2)
    changes[1] *= 1e6
    for count in (1, 2):
        updates = sent(held, changes[-count:])
        found = RobustAggregation("norm_bound").apply(tensors(held), updates)
        assert found.outliers == {}
        assert found.updates == updates


def test_where_most_silos_change_nothing_another_one_cannot_either():
    held = np.zeros(SIZE, np.float32)
    found = RobustAggregation("norm_bound").apply(tensors(held), sent(held, np.eye(3, SIZE) * [[0], [0], [5]]))
    assert list(found.outliers) == [2]
    assert not np.any(exact(held, found.updates))


@pytest.mark.parametrize("size", [1.0, 1e3, 1e12, 1e30])
@pytest.mark.parametrize("name", DEFENCES)
def test_two_of_nine_silos_move_the_result_by_no_more_than_a_bound_however_far_they_go(name, size):
    held, changes = drawn(9)
    honest = change(RobustAggregation("none"), held, sent(held, changes[2:]))
    spread = np.linalg.norm(changes[2:] - honest, axis=1).max()
    changes[:2] = size * np.random.default_rng(5).normal(size=SIZE)
    found = change(RobustAggregation(name, byzantine=2, factor=2.0), held, sent(held, changes))
    allowed = 3.0 if name != "norm_bound" else 2 * 2 / 9 * np.linalg.norm(changes[2:], axis=1).max() / spread + 1.0
    assert np.linalg.norm(found - honest) <= allowed * spread


@pytest.mark.parametrize(("name", "count"), [("median", 2), ("trimmed_mean", 4), ("multi_krum", 6)])
def test_too_few_updates_are_no_average(name, count):
    held, changes = drawn(count)
    with pytest.raises(FederationError, match=f"robust_aggregation: {name} needs .* updates .* {count} came"):
        RobustAggregation(name, byzantine=2 if count > 2 else 0).apply(tensors(held), sent(held, changes))


@pytest.mark.parametrize("name", DEFENCES)
def test_the_order_of_silos_does_not_matter(name):
    held, changes = drawn(5)
    changes[0] *= 100
    rule = RobustAggregation(name, byzantine=1)
    found = [change(rule, held, sent(held, changes[list(order)])) for order in itertools.permutations(range(5))]
    assert np.ptp(np.stack(found), axis=0).max() < 1e-6


@pytest.mark.parametrize("name", DEFENCES)
def test_equal_updates_are_kept(name):
    held, changes = drawn(1)
    updates = sent(held, np.repeat(changes, 5, axis=0))
    found = change(RobustAggregation(name, byzantine=1), held, updates)
    assert np.abs(found - exact(held, updates)[0]).max() < 3e-7
