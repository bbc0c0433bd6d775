"""Clients trained at once are clients trained one after the other."""

import numpy as np
import pytest
import torch

from fedclip_plugin.features import FeatureSet
from fedclip_plugin.federated.roles.task import Task
from fedclip_plugin.federated.roles.trainer import FedClipTrainer
from fedclip_plugin.federated.simulation.batched import can_batch, train_together
from fedclip_plugin.methods import create_adapter, load_parameters, parameters_of
from fedclip_plugin.methods.attention_gate import AttentionGate
from fedclip_plugin.methods.losses import PADDING, contrastive_loss
from fedclip_plugin.methods.registry import METHODS
from tests.support.workshop import fedml_args, frozen, training_settings

WIDTH, CLASSES = 24, 5
SIZES = (70, 33, 64, 2, 31, 1, 97)
"""Images of seven clients: whole batches of 32, short ones, one image left over, and no batch at all."""

BATCHED = [name for name, method in METHODS.items() if not method.on_pixels and name in (
    "fedclip", "sigmoid_gate", "clip_adapter", "linear_probe"
)]  # fmt: skip
STARTS = {name: ["zero_shot", *METHODS[name].starts] for name in BATCHED}


def clients(views=0):
    rng = torch.Generator().manual_seed(1)
    made = []
    for size in SIZES:
        labels = torch.randint(CLASSES, (size,), generator=rng)
        seen = torch.randn(size, views, WIDTH, generator=rng) if views else None
        made.append(FeatureSet(torch.randn(size, WIDTH, generator=rng), labels, seen))
    return made


def trained_alone(adapter, held, settings, inputs, data, number):
    text = inputs.text
    task = Task("fedclip", "x", "f" * 64, "fp32", ("a",) * CLASSES, "a {}", text, "0" * 64)
    trainer = FedClipTrainer(adapter, fedml_args(), settings, task, "silo", None)
    found = []
    for client, own in enumerate(data):
        load_parameters(adapter, held)
        trainer.set_id(client)
        rounds = fedml_args(round_idx=number)
        trainer.train(type("Splits", (), {"train": own})(), torch.device("cpu"), rounds)
        found.append(({name: tensor.clone() for name, tensor in parameters_of(adapter).items()}, trainer.train_loss))
    return found


@pytest.mark.parametrize(("method", "start"), [(name, start) for name in BATCHED for start in STARTS[name]])
@pytest.mark.parametrize(
    "changes",
    [{}, {"epochs": 2, "proximal_mu": 0.1}, {"zero_shot_distillation": 1.0, "text_pull": 4.0}],
    ids=["plain", "proximal", "regularised"],
)
def test_together_is_one_after_the_other(method, start, changes):
    settings, inputs = training_settings(weight_decay=0.0, **changes), frozen(WIDTH, CLASSES)
    adapter, data = create_adapter(method, inputs, 0, start=start), clients(views=2 if changes else 0)
    held = {name: tensor.clone() for name, tensor in parameters_of(adapter).items()}
    alone = trained_alone(adapter, held, settings, inputs, data, 4)
    load_parameters(adapter, held)
    together = train_together(adapter, held, range(len(data)), data, inputs.text, settings, 4)
    for client, (parameters, loss) in enumerate(alone):
        for name, own in parameters.items():
            assert torch.allclose(together.parameters[name][client], own, atol=1e-5, rtol=0), (client, name)
        assert together.losses[client] == pytest.approx(loss, abs=1e-5, nan_ok=True)
    moved = [any(not torch.equal(own[name], held[name]) for name in held) for own, _ in alone]
    assert moved == [size > 1 for size in SIZES]


def test_padding_changes_neither_loss_nor_gradient():
    rng = torch.Generator().manual_seed(2)
    text = torch.nn.functional.normalize(torch.randn(CLASSES, WIDTH, generator=rng), dim=-1)
    features, labels = torch.randn(9, WIDTH, generator=rng), torch.randint(CLASSES, (9,), generator=rng)
    short = features.clone().requires_grad_()
    contrastive_loss(short, text, labels, 7.0).backward()
    longer = torch.cat([features, torch.zeros(4, WIDTH)]).requires_grad_()
    filled = torch.cat([labels, torch.full((4,), PADDING)])
    padded = contrastive_loss(longer, text, filled, 7.0, padded=True)
    padded.backward()
    assert padded.item() == pytest.approx(contrastive_loss(features, text, labels, 7.0).item(), abs=1e-6)
    assert torch.allclose(longer.grad[:9], short.grad, atol=1e-7)
    assert not longer.grad[9:].any()


def test_a_loss_that_knows_no_padding_is_not_batched():
    class Own(AttentionGate):
        def loss(self, inputs, labels, text):
            return super().loss(inputs, labels, text)

    assert can_batch(AttentionGate(frozen(WIDTH)))
    assert not can_batch(Own(frozen(WIDTH)))
    assert not can_batch(create_adapter("prompt", frozen(128), 0))


def test_clients_are_apart():
    """A client's result does not depend on who is trained beside it."""
    settings, inputs, data = training_settings(), frozen(WIDTH, CLASSES), clients()
    adapter = create_adapter("fedclip", inputs, 0)
    held = {name: tensor.clone() for name, tensor in parameters_of(adapter).items()}
    every = train_together(adapter, held, range(7), data, inputs.text, settings, 1)
    few = train_together(adapter, held, [4, 0], [data[4], data[0]], inputs.text, settings, 1)
    for name in held:
        assert np.allclose(every.parameters[name][[4, 0]], few.parameters[name], atol=1e-5)
