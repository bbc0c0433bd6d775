"""The masks between two silos: one adds what the other subtracts, and nobody else can compute it.

Bonawitz et al. 2017 (Practical Secure Aggregation for Privacy-Preserving Machine Learning, section 4.0.1), without the
part that survives silos that drop out: here a sum needs every member.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedclip_plugin.federated.secure_sums.fixed_point import Ring
from fedclip_plugin.federated.secure_sums.hello import Purpose, RoundMembers

_KEY_BYTES = 32
_NONCE = bytes(16)  # a key is used for one stream
_AT_ONCE = 2**18  # bytes that stay in a processor's cache
_ZEROS = bytes(_AT_ONCE)


class PairMask(NamedTuple):
    """What is between this silo and another one in one sum.

    Attributes
    ----------
    key
        Of the keystream that is the mask; 32 bytes, secret.
    adds
        Whether this silo adds it: the one whose name comes first does, the other one subtracts it.
    """

    key: bytes
    adds: bool


class MaskStream:
    """The masks of one sum, laid over its numbers one after the other; each part of a keystream is used once."""

    def __init__(self, pairs: Iterable[PairMask]) -> None:
        self._streams = [(Cipher(ChaCha20(pair.key, _NONCE), mode=None).encryptor(), pair.adds) for pair in pairs]

    def lay_over(self, numbers: Ring) -> None:
        """Add and subtract the next part of each mask, in place, modulo the ring's size."""
        little = numbers.dtype.newbyteorder("<")
        step = _AT_ONCE // numbers.itemsize
        for start in range(0, numbers.size, step):
            part = numbers[start : start + step]
            for stream, adds in self._streams:
                mask = np.frombuffer(stream.update(_ZEROS[: part.nbytes]), little)
                (np.add if adds else np.subtract)(part, mask, out=part)


def shared_secret(own: X25519PrivateKey, other: str) -> bytes:
    """Return what two silos share, from the public key of the other one; a ValueError for a key that gives nothing."""
    return own.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(other)))


def salt_of(purpose: Purpose, round_: int, members: RoundMembers, adapter: str) -> bytes:
    """Return the digest of all that the members of a sum must have been told alike: else their masks do not cancel.

    The digest of the adapter that they go on from is among it: a server that sends some of them another one, from which
    they learn nothing, would else have the sum of the rest (Pasquini et al. 2022, arXiv 2111.07380).
    """
    hellos = sorted(members.hellos, key=lambda hello: hello.silo)
    told = [[hello.silo, hello.key, hello.images] for hello in hellos]
    return hashlib.sha256(json.dumps([*purpose, round_, members.attempt, adapter, told]).encode()).digest()


def pair_mask(secret: bytes, salt: bytes, own: str, other: str) -> PairMask:
    """Return the mask between two silos of these names, for one sum."""
    info = json.dumps(["fedclip-secure-sums-mask-v1", *sorted((own, other))]).encode()
    return PairMask(HKDF(SHA256(), _KEY_BYTES, salt, info).derive(secret), own < other)
