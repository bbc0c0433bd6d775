"""Privacy noise that differs on every rank.

FedML seeds every rank with the recipe's public ``random_seed`` and draws its DP noise from the global generators: all
silos would add the same noise, and anyone who reads the recipe could subtract it.
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
        np.random.seed(int.from_bytes(os.urandom(4), "little"))
        try:
            yield
        finally:
            np.random.set_state(before)
