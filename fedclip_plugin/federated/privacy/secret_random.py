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
_PAIRS = 2**14  # of numbers that stay in a processor's cache


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
        self._radii = np.empty(_PAIRS)

    def normal(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return ``count`` standard normal numbers on the CPU, ``[count]``, by Box and Muller (1958).

        Radii come from 53 bits, so that they reach to 8.5 standard deviations; angles from 32.
        """
        found = torch.empty(count, dtype=dtype)
        for start in range(0, count, 2 * _PAIRS):
            self._fill(found[start : start + 2 * _PAIRS].numpy())
        return found

    def _fill(self, found: npt.NDArray[Any]) -> None:
        pairs = (len(found) + 1) // 2
        drawn, rest = self._bytes(12 * pairs), len(found) - pairs
        radii = np.add(np.frombuffer(drawn, np.uint64, pairs) >> _ELEVEN, 1.0, out=self._radii[:pairs])
        np.log(radii, out=radii)
        radii -= 53 * math.log(2)
        radii *= -2.0
        lengths = np.sqrt(radii, out=radii).astype(found.dtype, copy=False)
        angles = np.frombuffer(drawn, np.int32, pairs, 8 * pairs).astype(found.dtype)
        angles *= found.dtype.type(2.0**-31 * math.pi)
        np.multiply(np.cos(angles), lengths, out=found[:pairs])
        np.multiply(np.sin(angles[:rest]), lengths[:rest], out=found[pairs:])

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
