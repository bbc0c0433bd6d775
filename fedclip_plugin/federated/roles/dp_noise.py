"""Privacy noise that differs on every rank.

FedML seeds every rank with the recipe's public ``random_seed`` and draws its DP noise from the global generators: all
silos would add the same noise, and anyone who reads the recipe could subtract it.

The seeds come from the operating system. torch's CPU generator takes 32 bits of a seed, so this keeps silos apart and
the recipe's readers out; it is no match for somebody who tries all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def secret_noise() -> Iterator[None]:
    """Seed torch's and numpy's global generators from the operating system for the length of the block."""
    before = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        np.random.seed(np.frombuffer(os.urandom(4 * 624), np.uint32))
        try:
            yield
        finally:
            np.random.set_state(before)
