"""What silos say of themselves to each other through the server, which cannot change it: it is signed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NamedTuple

from fedclip_edge.bundle.keys import KEY_SIZE, SIGNATURE_SIZE
from fedclip_plugin.trust.silo_keys import SiloIdentity

HELLO = "fedclip_hello"
"""A silo's :class:`Hello`, on FedML's word that it is there."""

MEMBERS = "fedclip_members"
"""The :class:`RoundMembers` of the round that begins, beside its adapter, for the silos that train in it."""

CONTEXT = b"fedclip-secure-sums-hello-v1\0"
"""Goes before what is signed: a silo's signature for this purpose is one for no other."""

_LONGEST_NAME = 1000
_MOST_IMAGES = 2**48
_HEX = re.compile(r"[0-9a-f]*", re.ASCII)


class Purpose(NamedTuple):
    """What a hello is for: what it says holds for this recipe and this run alone.

    Attributes
    ----------
    recipe
        The recipe's digest.
    run
        Name of the run: that of its folder.
    """

    recipe: str
    run: str


@dataclass(frozen=True)
class Hello:
    """What a silo says of itself to those that it is summed with (`secure_sums`).

    Attributes
    ----------
    silo
        Name of the silo.
    key
        Its X25519 public key of this start of the job, 64 hexadecimal digits.
    images
        How many images it trains on, which is what it weighs with `weighting: samples`.
    signature
        Ed25519, by the silo's own key, over all of that, the recipe's digest and the run's name; 128 hexadecimal
        digits.
    """

    silo: str
    key: str
    images: int
    signature: str

    def __post_init__(self) -> None:
        if not 0 < len(self.silo) <= _LONGEST_NAME:
            raise ValueError("the name of a silo must have 1 to 1,000 characters")
        if len(self.key) != 2 * KEY_SIZE or not _HEX.fullmatch(self.key):
            raise ValueError("key must be 64 hexadecimal digits")
        if len(self.signature) != 2 * SIGNATURE_SIZE or not _HEX.fullmatch(self.signature):
            raise ValueError("signature must be 128 hexadecimal digits")
        if not 0 < self.images < _MOST_IMAGES:
            raise ValueError("images must be a number of images from 1")

    def signed_bytes(self, purpose: Purpose) -> bytes:
        """Return what the signature is over."""
        return json.dumps([*purpose, self.silo, self.key, self.images]).encode()


@dataclass(frozen=True)
class RoundMembers:
    """The silos whose updates, or sums, are to be summed in a round (`secure_sums`).

    Attributes
    ----------
    attempt
        A number that grows with each sum of this start of the job.
    hellos
        The `Hello` of each, its own among them.
    """

    attempt: int
    hellos: tuple[Hello, ...]


def signed_hello(identity: SiloIdentity, key: str, images: int, purpose: Purpose) -> Hello:
    """Return what a silo says of itself, signed.

    Raises
    ------
    SiloKeysError
        Its private key cannot be read.
    """
    unsigned = Hello(identity.silo, key, images, "0" * 2 * SIGNATURE_SIZE)
    signature = identity.sign(unsigned.signed_bytes(purpose), CONTEXT)
    return Hello(identity.silo, key, images, signature.hex())


def is_genuine(hello: Hello, identity: SiloIdentity, purpose: Purpose) -> bool:
    """Return whether the silo that a hello names has signed it, by the roster."""
    known = identity.roster.get(hello.silo)
    return known is not None and known.verify(bytes.fromhex(hello.signature), hello.signed_bytes(purpose), CONTEXT)
