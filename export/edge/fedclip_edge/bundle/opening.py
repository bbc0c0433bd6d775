"""Opening a bundle: every check, in one order, before a byte of it is used."""

from __future__ import annotations

import io
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fedclip_edge.bundle import acceptance
from fedclip_edge.bundle.acceptance import Installed, Trust
from fedclip_edge.bundle.keys import SIGNATURE_SIZE
from fedclip_edge.bundle.manifest import MANIFEST, MAX_MANIFEST, SIGNATURE, FileEntry, Manifest
from fedclip_edge.errors import BundleError
from fedclip_edge.safe_files import Stamps, check_listed, open_regular, read_capped, read_listed, reading, stamp

_LEFT_BEHIND = frozenset(
    {".ds_store", "thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "lost+found"}
)

MAX_HEAD = 64 << 20
MAX_PREPROCESS = 1 << 20

_CHUNK = 1 << 20
# A tensor whose weights lie in a file says so by an entry with the key "location"; before a text in protobuf stands its
# length, here 8, of which the last byte is 8 or, in a spelling that nobody uses, 0.
_LOCATION = re.compile(rb"location(?<=[\0\x08]location)")  # the length is looked for behind it: 20 x as fast
# That entry as our exporter writes it: field 13, of 29 bytes, "location" and the name.
_LISTED_DATA = b"\x6a\x1d\x0a\x08location\x12\x11encoder.onnx.data"


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


@dataclass(frozen=True)
class Bundle(SignedManifest):
    """A bundle or an update that passed every check.

    `folder` is where its manifest lies. `head` and `preprocess` are the very bytes that were hashed; `encoder` is a
    file whose hash was checked (with that of its data beside it), known again by its stamp. An update has neither
    `preprocess` nor `encoder`.
    """

    folder: Path
    head: bytes
    preprocess: bytes | None = None
    encoder: Path | None = None
    stamps: Stamps = field(default_factory=dict)

    def require_unchanged(self) -> None:
        """Refuse an encoder that is not the file any more whose hash was checked; to be asked after it was loaded."""
        for path, known in self.stamps.items():
            with reading(path):
                found = stamp(path.lstat())
            if found != known:
                raise BundleError("hash", f"{path} was changed while it was opened; fetch it again, and leave it alone")

    def installed(self) -> Installed:
        """Return what a device has once this is installed."""
        return Installed.after(self.manifest)


class Base(NamedTuple):
    """Checked preprocess and encoder, as a :class:`Bundle` holds them."""

    preprocess: bytes
    encoder: Path
    stamps: Stamps


def open_bundle(
    folder: Path,
    trust: Trust,
    *,
    installed: Installed | None = None,
    runtime: str | None = None,
    now: float | None = None,
) -> Bundle:
    """Check a delivered bundle or update completely, and hand on what was checked.

    Parameters
    ----------
    folder, trust
        As it was delivered, and what it has to prove.
    installed
        What the device has; None when it has nothing, or a bundle is served from where it lies.
    runtime
        Version of onnxruntime; None leaves out that check.
    now
        UTC seconds; None for this host's clock.

    Raises
    ------
    BundleError
        With the code of the first rule that is broken, in the order: sizes, signature, form of the manifest, product,
        sequence, time, runtime, installed parts, set of files, sizes and hashes, weights outside.
    """
    signed = read_manifest(folder, trust)
    manifest = signed.manifest
    acceptance.check_product(manifest, trust.product, on_device=installed is not None)
    if installed is not None:
        acceptance.check_sequence(manifest, installed)
    acceptance.check_time(manifest, time.time() if now is None else now)
    if runtime is not None:
        acceptance.check_runtime(manifest, runtime)
    acceptance.check_parts(manifest, installed)
    return read_files(folder, signed)


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


def read_files(folder: Path, signed: SignedManifest) -> Bundle:
    """Check the files of a folder against its manifest: the exact set, kinds, sizes, hashes, weights outside."""
    manifest = signed.manifest
    require_exact_set(folder, set(manifest.carried()) | {MANIFEST} | ({SIGNATURE} if signed.signature else set()))
    head = read_small(folder, *manifest.file("head"), MAX_HEAD)
    base = {} if manifest.is_update else read_base(folder, manifest)._asdict()
    return Bundle(**vars(signed), folder=folder, head=head, **base)


def read_base(folder: Path, manifest: Manifest) -> Base:
    """Check preprocess and encoder in a folder; return the bytes of the one and the path of the other."""
    preprocess = read_small(folder, *manifest.file("preprocess"), MAX_PREPROCESS)
    stamps, files = {}, manifest.encoder_files()
    for name, entry in files.items():
        with open_regular(folder / name) as stream, reading(folder / name):
            stamps[folder / name] = stamp(os.fstat(stream.fileno()))
            check_listed(stream, folder / name, entry.size, entry.sha256)
            if entry.role == "encoder":
                stream.seek(0)
                _require_no_weights_outside(stream, name, data=len(files) > 1)
    return Base(preprocess, folder / manifest.file("encoder")[0], stamps)


def read_small(folder: Path, name: str, entry: FileEntry, limit: int) -> bytes:
    """Return a listed graph that is small enough to be held in memory, as it was hashed."""
    if entry.size > limit:
        raise BundleError(
            "too-large", f"{name} is listed with {entry.size} bytes, over its limit of {limit}; export fewer labels"
        )
    content = read_listed(folder / name, entry.size, entry.sha256)
    _require_no_weights_outside(io.BytesIO(content), name, data=False)
    return content


def _require_no_weights_outside(graph: BinaryIO, name: str, *, data: bool) -> None:
    """Refuse a graph that points to weights in a file; with `data`, in another one than ``encoder.onnx.data``.

    onnxruntime would read it: 1.16 any file that a relative path leads to, 1.26 those below the current folder.
    """
    if data:
        found = _LOCATION.search(graph.read().replace(_LISTED_DATA, b""))  # a graph without its weights is small
    else:
        found, window = None, b""
        while found is None and (chunk := graph.read(_CHUNK)):
            window = window[-len("location") :] + chunk
            found = _LOCATION.search(window)
    if found is not None:
        raise BundleError(
            "graph", f"{name} points to weights in a file that the manifest does not list; export it with them inside"
        )


def require_exact_set(folder: Path, wanted: set[str]) -> None:
    """Refuse a folder that lacks one of these names, or has another one (``missing-file``, ``unlisted-file``).

    What an operating system leaves behind, such as ``.DS_Store``, is passed over: it is never opened.
    """
    with reading(folder):
        found = {path.name for path in folder.iterdir()}
    if missing := sorted(wanted - found):
        raise BundleError("missing-file", f"{folder} lacks {', '.join(missing)}; fetch the whole folder again")
    if unlisted := sorted(name for name in found - wanted if not is_left_behind(name)):
        raise BundleError(
            "unlisted-file",
            f"{folder} has files that the manifest does not list: {', '.join(unlisted)[:300]}; remove them",
        )


def is_left_behind(name: str) -> bool:
    """Return whether operating systems put files of this name beside those of their users."""
    return name.startswith("._") or name.lower() in _LEFT_BEHIND
