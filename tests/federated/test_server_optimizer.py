"""FedOpt on the server: the formulas of the paper, and FedAvg as a special case, bit for bit."""

import math
from collections import OrderedDict

import pytest
import torch

from fedclip_plugin.federated.roles.server_optimizer import ServerOptimizer
from fedclip_plugin.recipe import FedClipArgs

NAMES = ("none", "sgd", "adam")


def tensors(*rows, dtype=torch.float32):
    return OrderedDict((f"layer.{index}", torch.tensor(row, dtype=dtype)) for index, row in enumerate(rows))


def drawn(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"gate.weight": (5, 4), "gate.bias": (5,), "logit_scale": ()}
    return OrderedDict((name, torch.randn(shape, generator=generator, dtype=dtype)) for name, shape in shapes.items())


def bits(named):
    return {name: tensor.numpy().tobytes() for name, tensor in named.items()}


def test_the_recipe_offers_exactly_these():
    assert FedClipArgs.model_fields["server_optimizer"].annotation.__args__ == NAMES


@pytest.mark.parametrize("optimizer", [ServerOptimizer("none", 0.1), ServerOptimizer("sgd", 1.0, 0.0)])
def test_sgd_at_rate_1_without_momentum_is_fedavg_bit_for_bit(optimizer):
    average = drawn(2) | tensors([0.0, -0.0, 1e-45, 3e38, 1 / 3], [1e-30, 1.0, -1.0, 0.1, 2**24 + 1])
    current = drawn(1) | tensors([-0.0, 0.0, 1.0, -3e37, 0.1], [1e30, -1e-9, 7.0, 0.3, 1e-8])
    for _ in range(3):
        assert bits(optimizer.step(current, average)) == bits(average)
    assert optimizer.state() == {}


def test_sgd_with_momentum_follows_its_recurrence():
    optimizer, lr, momentum = ServerOptimizer("sgd", 0.5, 0.9), 0.5, 0.9
    place, velocity = 1.0, 0.0
    for average in (0.2, 0.7, -0.4, 0.1):
        velocity = momentum * velocity + (place - average)
        moved = optimizer.step(tensors([place], dtype=torch.float64), tensors([average], dtype=torch.float64))
        place -= lr * velocity
        assert float(moved["layer.0"]) == pytest.approx(place, abs=1e-12)


def test_adam_follows_algorithm_2_of_the_paper():
    optimizer, lr, tau = ServerOptimizer("adam", 0.01), 0.01, 1e-3
    place, mean, square = 1.0, 0.0, tau**2
    for average in (0.9, 0.95, 1.2, 0.8):
        gradient = place - average
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        moved = optimizer.step(tensors([place], dtype=torch.float64), tensors([average], dtype=torch.float64))
        place -= lr * mean / (math.sqrt(square) + tau)
        assert float(moved["layer.0"]) == pytest.approx(place, abs=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_steps_lead_to_where_the_silos_agree(name):
    goal, place = drawn(3, torch.float64), drawn(4, torch.float64)
    optimizer = ServerOptimizer(name, {"sgd": 0.3, "adam": 0.03}[name], {"sgd": 0.5, "adam": 0.0}[name])
    for _ in range(500):
        place = optimizer.step(place, goal)
    assert all(torch.allclose(place[key], goal[key], atol=1e-3) for key in goal)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_names_order_shapes_and_types_stay(name, dtype):
    average = drawn(1, torch.float32)
    average = OrderedDict((key, value.to(dtype)) for key, value in average.items())
    current = OrderedDict((key, value + 1) for key, value in average.items())
    moved = ServerOptimizer(name, 0.5, 0.5).step(current, average)
    assert isinstance(moved, OrderedDict)
    assert [(key, value.shape, value.dtype) for key, value in moved.items()] == [
        (key, value.shape, value.dtype) for key, value in average.items()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_in_is_left_alone(name):
    current, average = drawn(1), drawn(2)
    before = bits(current), bits(average)
    optimizer = ServerOptimizer(name, 0.5, 0.5)
    for _ in range(2):
        optimizer.step(current, average)
    assert (bits(current), bits(average)) == before


@pytest.mark.parametrize(("name", "kept"), [("none", set()), ("sgd", {"v"}), ("adam", {"m", "v"})])
def test_an_optimizer_goes_on_from_its_state(name, kept):
    first, again, fresh = (ServerOptimizer(name, 0.1, 0.9) for _ in range(3))
    first.step(drawn(1), drawn(2))
    assert set(first.state()) == {f"{tensor}:{kind}" for tensor in drawn(1) for kind in kept}
    again.load_state({key: torch.tensor(value.numpy()) for key, value in first.state().items()})
    steps = [bits(optimizer.step(drawn(3), drawn(4))) for optimizer in (first, again, fresh)]
    assert steps[0] == steps[1]
    assert (steps[0] == steps[2]) == (not kept)


def test_an_unknown_name_is_no_optimizer():
    with pytest.raises(KeyError, match="yogi"):
        ServerOptimizer("yogi")
