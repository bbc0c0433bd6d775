"""A manifest and its signature, which is checked before anything of the manifest is believed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fedclip_edge.bundle.acceptance import Trust
from fedclip_edge.bundle.keys import SIGNATURE_SIZE
from fedclip_edge.bundle.manifest import MANIFEST, MAX_MANIFEST, SIGNATURE, Manifest
from fedclip_edge.errors import BundleError
from fedclip_edge.safe_files import open_regular, read_capped, reading


@dataclass(frozen=True)
class SignedManifest:
    """A manifest whose signature was checked (unless unsigned ones are allowed), and nothing else yet.

    `raw` and `signature` are its bytes, and 64 bytes of signature (None: unsigned); `key_id` tells which of the keys
    held had signed it, None when none is held.
    """

    manifest: Manifest
    raw: bytes
    signature: bytes | None
    key_id: str | None


def read_manifest(folder: Path, trust: Trust) -> SignedManifest:
    """Read a manifest; its signature is checked over the raw bytes before they are parsed.

    Refuses with ``missing-file``, ``not-regular``, ``too-large``, ``unsigned``, ``signature``, or as
    :meth:`Manifest.from_bytes`.
    """
    raw = read_capped(folder / MANIFEST, MAX_MANIFEST)
    signature = _read_signature(folder)
    key_id = _signer(raw, signature, trust)
    return SignedManifest(Manifest.from_bytes(raw), raw, signature, key_id)


def _read_signature(folder: Path) -> bytes | None:
    path = folder / SIGNATURE
    if not os.path.lexists(path):
        return None
    with open_regular(path) as stream, reading(path):
        signature = stream.read(SIGNATURE_SIZE + 1)
    if len(signature) != SIGNATURE_SIZE:
        raise BundleError("signature", f"{path} is not a signature: it has to have {SIGNATURE_SIZE} bytes")
    return signature


def _signer(raw: bytes, signature: bytes | None, trust: Trust) -> str | None:
    if trust.allow_unsigned and not trust.keys:
        return None
    if signature is None:
        raise BundleError(
            "unsigned",
            "the bundle is not signed, but this device takes only signed ones; sign it, or for development allow "
            "unsigned ones (--allow-unsigned, allow_unsigned=True)",
        )
    if not trust.keys:
        raise BundleError(
            "signature",
            "no public key is held that could tell who signed the bundle; give one (--key), or for development do "
            "without (--allow-unsigned, allow_unsigned=True)",
        )
    for key in trust.keys:
        if key.verify(signature, raw):
            return key.id
    raise BundleError(
        "signature",
        f"the manifest was changed, or signed by none of the keys held ({', '.join(key.id for key in trust.keys)}); "
        "fetch the bundle again, or add the new public key",
    )
