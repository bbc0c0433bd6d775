"""Ed25519 keys: make a pair, sign a manifest, and tell who signed one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from fedclip_edge.errors import ExportError, MissingPackageError
from fedclip_edge.safe_files import open_plain

CONTEXT = b"fedclip-bundle-v1\0"
SIGNATURE_SIZE = 64
_PEM = (b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----")
# RFC 8410: SubjectPublicKeyInfo of an Ed25519 key is this prefix and the 32 bytes of the key.
_PREFIX = bytes.fromhex("302a300506032b6570032100")
_MAX_PEM = 1 << 16


@dataclass(frozen=True)
class PublicKey:
    """A key that bundles may be signed with.

    Attributes
    ----------
    id
        First 16 hex digits of the SHA-256 of the raw 32 bytes.
    pem
        The key as PEM (SubjectPublicKeyInfo), always spelt the same.
    path
        The file it was read from, for messages; None when it came from elsewhere.
    """

    id: str
    pem: bytes
    path: Path | None = field(default=None, compare=False)

    def verify(self, signature: bytes, manifest: bytes) -> bool:
        """Tell whether ``signature`` over these manifest bytes was made with this key's private half.

        Raises
        ------
        MissingPackageError
            When ``cryptography`` is not installed.
        """
        _cryptography()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(_raw(self.pem)).verify(signature, CONTEXT + manifest)
        except InvalidSignature:
            return False
        return True


def parse_public_key(pem: bytes) -> PublicKey:
    """Read a public key; what stands beside it, such as its private half, is left out.

    Raises
    ------
    ValueError
        When this is not the PEM of an Ed25519 public key.
    """
    raw = _raw(pem)
    body = base64.b64encode(_PREFIX + raw)
    return PublicKey(hashlib.sha256(raw).hexdigest()[:16], b"\n".join((_PEM[0], body, _PEM[1], b"")))


def load_public_keys(paths: Sequence[Path]) -> tuple[PublicKey, ...]:
    """Read public keys from PEM files.

    Raises
    ------
    ExportError
        When one cannot be read or is something else, such as the private half.
    """
    return tuple(_load(Path(path)) for path in paths)


def generate(private_path: Path) -> PublicKey:
    """Make a pair: the private key under this name (mode 0600), the public one beside it as ``<name>.pub``.

    Raises
    ------
    ExportError
        When one of the two exists already, or the folder cannot be written.
    MissingPackageError
        When ``cryptography`` is not installed.
    """
    _cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    public_path = private_path.with_name(private_path.name + ".pub")
    if os.path.lexists(public_path):
        raise ExportError(f"{public_path} exists; keys are never overwritten: choose another name")
    _write_new(private_path, private, 0o600)
    try:
        _write_new(public_path, public, 0o644)
    except ExportError:
        private_path.unlink()
        raise
    return parse_public_key(public)


def sign(manifest: bytes, private_path: Path) -> bytes:
    """Return the 64-byte signature over these manifest bytes.

    Raises
    ------
    ExportError
        When the file is not an unencrypted Ed25519 private key (PEM, PKCS8).
    MissingPackageError
        When ``cryptography`` is not installed.
    """
    _cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(private_path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ExportError(
            f"{private_path} is not a private key that can sign ({error}); make one with keygen"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ExportError(f"{private_path} holds another kind of key; bundles are signed with Ed25519: use keygen")
    return key.sign(CONTEXT + manifest)


def _load(path: Path) -> PublicKey:
    try:
        return replace(parse_public_key(_read(path)), path=path)
    except ValueError as error:
        raise ExportError(
            f"{path} is not an Ed25519 public key in PEM ({error}); give the .pub file that keygen wrote"
        ) from error


def _raw(pem: bytes) -> bytes:
    _, begin, rest = pem.partition(_PEM[0])
    body, end, after = rest.partition(_PEM[1])
    if not begin or not end or _PEM[0] in after:
        raise ValueError("it has to hold one BEGIN PUBLIC KEY block")
    try:
        content = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"its base64 is damaged: {error}") from error
    if len(content) != len(_PREFIX) + 32 or not content.startswith(_PREFIX):
        raise ValueError("it is a key of another kind")
    return content[len(_PREFIX) :]


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


def _cryptography() -> ModuleType:
    try:
        import cryptography
    except ImportError as error:
        raise MissingPackageError(
            "signatures need the package cryptography: pip install 'fedclip-export[verify]'"
        ) from error
    return cryptography
