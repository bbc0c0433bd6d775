"""Our Adam and torch's: the same bits, step after step."""

import pytest
import torch

from fedclip_plugin.federated.roles.adam import BETAS, EPSILON, Adam


def parameters():
    source = torch.Generator().manual_seed(3)
    return [torch.nn.Parameter(torch.randn(shape, generator=source)) for shape in ((5, 7), (7,), ())]


@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
def test_every_step_has_torchs_bits(weight_decay):
    ours, theirs = parameters(), parameters()
    mine = Adam(ours, 1e-2, weight_decay)
    reference = torch.optim.Adam(theirs, lr=1e-2, betas=BETAS, eps=EPSILON, weight_decay=weight_decay, fused=True)
    for step in range(12):
        for matrix, vector, scalar in (ours, theirs):
            loss = (matrix @ vector).sin().sum() * (step + 1)
            if step % 3:
                loss = loss + scalar.square()
            loss.backward()
        mine.step()
        reference.step()
        reference.zero_grad()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert all(parameter.grad is None for parameter in ours)
