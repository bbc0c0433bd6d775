"""Random numbers for privacy: nobody can compute them who has not the key, which never leaves this process."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from torch import Tensor

KEY_BYTES = 32
_NONCE = bytes(16)  # a key is used once
_UNIT = 2.0**-53
_ELEVEN = np.uint64(11)
_TWELVE, _ONE = np.uint64(12), np.array(1.0).view(np.uint64)[()]
_PAIRS = 2**14  # of numbers that stay in a processor's cache


class _Scratch:
    """Memory for a block of pairs of normal numbers, taken once for all blocks."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.zeros, self.drawn = memoryview(bytes(12 * _PAIRS)), bytearray(12 * _PAIRS)
        self.uniform = np.empty(_PAIRS)
        self.numbers = torch.empty(2 * _PAIRS, dtype=dtype)
        self.lengths, self.angles = torch.empty(2, _PAIRS, dtype=dtype).numpy()


class SecretRandom:
    """A ChaCha20 keystream under a key of 256 bits from the operating system.

    torch's and numpy's own generators would do neither: torch's takes 32 bits of a seed on a CPU, and what either
    draws next can be computed from what it drew. A keystream lasts for 2^38 bytes; make a new one for each round.

    Parameters
    ----------
    key
        32 bytes; None takes them from :func:`os.urandom`. Only tests give one.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._stream = Cipher(ChaCha20(os.urandom(KEY_BYTES) if key is None else key, _NONCE), mode=None).encryptor()
        self._scratch: dict[torch.dtype, _Scratch] = {}

    def normal(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return ``count`` standard normal numbers on the CPU, ``[count]``, by Box and Muller (1958).

        Radii come from 52 bits, so that they reach to 8.5 standard deviations; angles from 32.
        """
        return self.add_normal(torch.zeros(count, dtype=dtype), 1.0)

    def add_normal(self, tensor: Tensor, deviation: float, factor: float = 1.0) -> Tensor:
        """Add such numbers times ``deviation`` to a tensor, multiply by ``factor``, and return it.

        The tensor has no gaps, and any shape and device. All is done in blocks that a processor's cache holds.
        """
        scratch = self._scratch.get(tensor.dtype) or self._scratch.setdefault(tensor.dtype, _Scratch(tensor.dtype))
        for part in tensor.view(-1).split(2 * _PAIRS):
            numbers = scratch.numbers[: len(part)]
            self._fill(numbers.numpy(), scratch)
            part.add_(numbers.to(part.device), alpha=deviation).mul_(factor)
        return tensor

    def _fill(self, found: npt.NDArray[Any], scratch: _Scratch) -> None:
        pairs = (len(found) + 1) // 2
        drawn = scratch.drawn
        uniform, lengths, angles = scratch.uniform[:pairs], scratch.lengths[:pairs], scratch.angles[:pairs]
        self._stream.update_into(scratch.zeros[: 12 * pairs], drawn)
        bits = uniform.view(np.uint64)
        np.right_shift(np.frombuffer(drawn, np.uint64, pairs), _TWELVE, out=bits)
        np.bitwise_or(bits, _ONE, out=bits)  # numbers from 1 to below 2, without a conversion
        np.subtract(2.0, uniform, out=uniform)
        lengths[:] = np.log(uniform, out=uniform)
        lengths *= -2
        np.sqrt(lengths, out=lengths)
        angles[:] = np.frombuffer(drawn, np.int32, pairs, 8 * pairs)
        angles *= 2.0**-31 * math.pi
        for half, wave in ((found[:pairs], np.cos), (found[pairs:], np.sin)):
            wave(angles[: len(half)], out=half)
            half *= lengths[: len(half)]

    def sample(self, count: int, rate: float) -> Tensor:
        """Return which of ``count`` images a Poisson sample has, each by itself with probability ``rate``; int64."""
        return torch.from_numpy(np.flatnonzero(self._above_zero(count) <= rate))

    def generator(self) -> np.random.Generator:
        """Return a generator of numpy's for what need not be secret; 128 bits of the stream are its key."""
        return np.random.Generator(np.random.Philox(key=int.from_bytes(self._bytes(16), "little")))

    def _bytes(self, count: int) -> bytes:
        return self._stream.update(bytes(count))

    def _above_zero(self, count: int) -> npt.NDArray[np.float64]:
        """Return uniform numbers above 0 and up to 1."""
        whole = np.frombuffer(self._bytes(8 * count), np.uint64) >> _ELEVEN
        return (whole.astype(np.float64) + 1.0) * _UNIT
