"""The rounds and the bases inside a device folder: written whole, checked at every start."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Set
from pathlib import Path

from fedclip_edge.bundle import acceptance
from fedclip_edge.bundle.acceptance import Trust
from fedclip_edge.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from fedclip_edge.bundle.opening import (
    MAX_HEAD,
    Bundle,
    SignedManifest,
    read_base,
    read_manifest,
    read_small,
    require_exact_set,
)
from fedclip_edge.device.keys import KEYS
from fedclip_edge.device.state import damaged
from fedclip_edge.errors import BundleError
from fedclip_edge.files import copy_listed, fill, new_folder, protect, remove

ROUNDS, BASES = "rounds", "base"


def base_of(manifest: Manifest) -> str:
    """Return the name of the base that a round needs: 16 hex digits of the hashes of encoder and preprocess."""
    parts = f"{manifest.encoder_digest()} {manifest.file('preprocess')[1].sha256}\n"
    return hashlib.sha256(parts.encode("ascii")).hexdigest()[:16]


def read_round(folder: Path, name: str, trust: Trust) -> SignedManifest:
    """Read the manifest of an installed round, and see that it is of this name and product."""
    signed = read_manifest(folder / ROUNDS / name, trust)
    acceptance.check_product(signed.manifest, trust.product, on_device=True)
    if str(signed.manifest.sequence) != name:
        raise damaged(folder, f"{ROUNDS}/{name} holds sequence {signed.manifest.sequence}")
    return signed


def read_head(folder: Path, name: str, trust: Trust) -> tuple[SignedManifest, bytes]:
    """Check the folder of an installed round, though not its base; return its manifest and head."""
    signed, place = read_round(folder, name, trust), folder / ROUNDS / name
    head, entry = signed.manifest.file("head")
    require_exact_set(place, {MANIFEST, head} | ({SIGNATURE} if signed.signature else set()))
    return signed, read_small(place, head, entry, MAX_HEAD)


def open_round(folder: Path, name: str, trust: Trust, runtime: str | None) -> Bundle:
    """Check an installed round with its base as if it were new, but for time and sequence."""
    signed, head = read_head(folder, name, trust)
    if runtime is not None:
        acceptance.check_runtime(signed.manifest, runtime)
    base, place = read_base(folder / BASES / base_of(signed.manifest), signed.manifest), folder / ROUNDS / name
    return Bundle(**vars(signed), folder=place, head=head, **base._asdict())


def write_round(folder: Path, bundle: Bundle) -> None:
    """Write manifest, signature and head of a round as one folder; what an interrupted attempt left is replaced."""
    files = {MANIFEST: bundle.raw, bundle.manifest.file("head")[0]: bundle.head}
    if bundle.signature is not None:
        files[SIGNATURE] = bundle.signature
    (folder / ROUNDS).mkdir(exist_ok=True)
    with new_folder(folder / ROUNDS / str(bundle.manifest.sequence)) as temporary:
        fill(temporary, files)
        protect(temporary)


def write_base(folder: Path, bundle: Bundle) -> None:
    """Write encoder and preprocess of a full bundle as one folder, unless a healthy copy of them is there.

    Refuses a delivered encoder that was changed since it was checked.
    """
    if bundle.encoder is None or bundle.preprocess is None:
        return
    manifest, place = bundle.manifest, folder / BASES / base_of(bundle.manifest)
    with contextlib.suppress(BundleError):
        read_base(place, manifest)
        return
    place.parent.mkdir(exist_ok=True)
    with new_folder(place) as temporary:
        fill(temporary, {manifest.file("preprocess")[0]: bundle.preprocess})
        for name, entry in manifest.encoder_files().items():
            copy_listed(bundle.encoder.with_name(name), temporary / name, entry.size, entry.sha256)
        protect(temporary)


def prune(folder: Path, rounds: Set[str], trust: Trust) -> None:
    """Delete rounds other than these, the bases that none of these needs, and what interrupted attempts left.

    What cannot be deleted (a file in use on Windows, a disk error) does no harm and is tried again after the next
    round, so failures are left at that. While a kept round cannot be read, no base is deleted.
    """
    for path in (*folder.glob(".*.tmp"), *(folder / KEYS).glob(".*.tmp")):
        _remove(path)
    for path in (folder / ROUNDS).iterdir():
        if path.name not in rounds:
            _remove(path)
    try:
        bases = {base_of(read_round(folder, name, trust).manifest) for name in rounds}
    except BundleError:
        return
    for path in (folder / BASES).iterdir():
        if path.name not in bases:
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        remove(path)
