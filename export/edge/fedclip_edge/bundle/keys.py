"""Ed25519 keys: make a pair, sign a manifest or other bytes, and tell who signed them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from fedclip_edge.arguments import as_path
from fedclip_edge.errors import ExportError, MissingPackageError
from fedclip_edge.safe_files import open_plain

CONTEXT = b"fedclip-bundle-v1\0"
"""Goes before the bytes of a manifest that are signed: no signature for one purpose is one for another."""

KEY_SIZE, SIGNATURE_SIZE = 32, 64
_MAX_PEM = 1 << 16


@dataclass(frozen=True)
class PublicKey:
    """A key that something may be signed with: 32 bytes, and for messages the file that it was read from."""

    raw: bytes
    path: Path | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the raw bytes."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @property
    def pem(self) -> bytes:
        """The key as PEM (SubjectPublicKeyInfo)."""
        form, ed25519 = _cryptography()
        key = ed25519.Ed25519PublicKey.from_public_bytes(self.raw)
        pem: bytes = key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        return pem

    def verify(self, signature: bytes, content: bytes, context: bytes = CONTEXT) -> bool:
        """Tell whether ``signature`` over these bytes, a manifest's or with another context others, is of this key."""
        _, ed25519 = _cryptography()
        from cryptography.exceptions import InvalidSignature

        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, context + content)
        except InvalidSignature:
            return False
        return True


def load_public_keys(paths: Sequence[str | Path]) -> tuple[PublicKey, ...]:
    """Read public keys from PEM files; what stands beside one, such as its private half, is left out.

    Raises ExportError when one cannot be read or is something else, such as the private half.
    """
    if not isinstance(paths, Sequence) or isinstance(paths, str | bytes):
        raise ExportError(f"keys is a {type(paths).__name__}; give a list of files")
    return tuple(_load(as_path(path, "a key's file", ExportError)) for path in paths)


def generate(private_path: Path) -> PublicKey:
    """Make a pair: the private key under this name (mode 0600), the public one beside it as ``<name>.pub``.

    Raises ExportError when one of the two exists already, or the folder cannot be written.
    """
    form, ed25519 = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = PublicKey(key.public_key().public_bytes_raw())
    public_path = private_path.with_name(private_path.name + ".pub")
    if os.path.lexists(public_path):
        raise ExportError(f"{public_path} exists; keys are never overwritten: choose another name")
    _write_new(private_path, private, 0o600)
    try:
        _write_new(public_path, public.pem, 0o644)
    except ExportError:
        private_path.unlink()
        raise
    return public


def sign(content: bytes, private_path: Path, context: bytes = CONTEXT) -> bytes:
    """Return the 64-byte signature over these bytes, a manifest's or with another context others.

    Raises ExportError when the file is not an unencrypted Ed25519 private key (PEM, PKCS8).
    """
    signature: bytes = _private(private_path).sign(context + content)
    return signature


def public_half(private_path: Path) -> PublicKey:
    """Return the public key that belongs to a private one; errors as :func:`sign`."""
    return PublicKey(_private(private_path).public_key().public_bytes_raw(), private_path)


def _private(path: Path) -> Any:
    form, ed25519 = _cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = form.load_pem_private_key(_read(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ExportError(f"{path} is not a private key that can sign ({error}); make one with keygen") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ExportError(f"{path} holds another kind of key; everything here is signed with Ed25519: use keygen")
    return key


def _load(path: Path) -> PublicKey:
    form, ed25519 = _cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        _, begin, rest = _read(path).partition(b"-----BEGIN PUBLIC KEY-----")
        if not begin or begin in rest:
            raise ValueError("it has to hold one BEGIN PUBLIC KEY block")
        key = form.load_pem_public_key(begin + rest)
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise ValueError("it is a key of another kind")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ExportError(
            f"{path} is not an Ed25519 public key in PEM ({error}); give the .pub file that keygen wrote"
        ) from error
    return PublicKey(key.public_bytes_raw(), path)


def _read(path: Path) -> bytes:
    try:
        with open_plain(path) as stream:
            return stream.read(_MAX_PEM)
    except OSError as error:
        raise ExportError(f"the key {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ExportError(f"the key {path} cannot be read: {error}") from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ExportError(f"{path} exists; keys are never overwritten: choose another name") from error
    except OSError as error:
        raise ExportError(f"the key {path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _cryptography() -> tuple[ModuleType, ModuleType]:
    """Return cryptography's ``serialization`` and ``ed25519``, imported when a key is first used."""
    try:
        import cryptography  # noqa: F401
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingPackageError(
            "signatures need the package cryptography: pip install 'fedclip-edge[verify]'"
        ) from error
    return serialization, ed25519
