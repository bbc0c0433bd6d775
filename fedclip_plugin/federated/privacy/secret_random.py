"""Random numbers for privacy: nobody can compute them who has not the key, which never leaves this process."""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from torch import Tensor

KEY_BYTES = 32
_NONCE = bytes(16)  # a key is used once
_TWELVE, _ONE = np.uint64(12), np.array(1.0).view(np.uint64)[()]
_RING = 2.0**64
_AT_ONCE = 2**15  # normal numbers that stay in a processor's cache


class _Block:
    """Memory for ``count`` normal numbers, in which they are made again and again."""

    def __init__(self, count: int, dtype: torch.dtype) -> None:
        pairs = (count + 1) // 2
        self.numbers = torch.empty(count, dtype=dtype)
        self._zeros, self._drawn = bytes(12 * pairs), bytearray(12 * pairs)
        self._radii = np.frombuffer(self._drawn, np.uint64, pairs)
        self._turns = np.frombuffer(self._drawn, np.int32, pairs, 8 * pairs)
        self._uniform = np.empty(pairs)
        self._bits = self._uniform.view(np.uint64)
        self._lengths, self._angles = torch.empty(2, pairs, dtype=dtype).numpy()
        found, rest = self.numbers.numpy(), count - pairs
        self._halves = (
            (np.cos, self._angles, self._lengths, found[:pairs]),
            (np.sin, self._angles[:rest], self._lengths[:rest], found[pairs:]),
        )

    def draw(self, stream: CipherContext) -> Tensor:
        """Return new numbers, which the next call overwrites, by Box and Muller (1958)."""
        stream.update_into(self._zeros, self._drawn)
        np.right_shift(self._radii, _TWELVE, out=self._bits)
        np.bitwise_or(self._bits, _ONE, out=self._bits)  # as floats, from 1 to below 2: no conversion is as fast
        np.subtract(2.0, self._uniform, out=self._uniform)
        lengths, angles = self._lengths, self._angles
        lengths[:] = np.log(self._uniform, out=self._uniform)
        lengths *= -2
        np.sqrt(lengths, out=lengths)
        angles[:] = self._turns
        angles *= 2.0**-31 * math.pi
        for wave, of, times, half in self._halves:
            wave(of, out=half)
            half *= times
        return self.numbers


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
        self._blocks: dict[tuple[int, torch.dtype], _Block] = {}

    def normal(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return ``count`` standard normal numbers on the CPU, ``[count]``.

        Radii come from 52 bits, so that they reach to 8.5 standard deviations; angles from 32.
        """
        return self.add_normal(torch.zeros(count, dtype=dtype), 1.0)

    def add_normal(self, tensor: Tensor, deviation: float, factor: float = 1.0) -> Tensor:
        """Add such numbers times ``deviation`` to a tensor, multiply by ``factor``, and return it.

        The tensor has no gaps, and any shape and device. All is done in blocks that a processor's cache holds.
        """
        for part in tensor.view(-1).split(_AT_ONCE):
            kind = len(part), tensor.dtype
            if kind not in self._blocks:
                self._blocks[kind] = _Block(*kind)
            numbers = self._blocks[kind].draw(self._stream)
            part.add_(numbers.to(part.device), alpha=deviation).mul_(factor)
        return tensor

    def sample(self, count: int, rate: float) -> Tensor:
        """Return which of ``count`` images a Poisson sample has, each with probability ``rate``, below 1; int64."""
        drawn = np.frombuffer(self._bytes(8 * count), np.uint64)
        return torch.from_numpy(np.flatnonzero(drawn < np.uint64(rate * _RING)))

    def generator(self) -> np.random.Generator:
        """Return a generator of numpy's for what need not be secret; 128 bits of the stream are its key."""
        return np.random.Generator(np.random.Philox(key=int.from_bytes(self._bytes(16), "little")))

    def _bytes(self, count: int) -> bytes:
        return self._stream.update(bytes(count))
