"""What makes an export a release: for which product, in which order, valid until when, signed by whom."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedclip_edge.bundle import FileEntry, Manifest
from fedclip_edge.bundle.keys import load_public_keys, sign
from fedclip_edge.bundle.manifest_schema import MAX_NEXT_KEYS, ROLES
from fedclip_edge.errors import ConversionError, ExportError
from fedclip_edge.files import sweep
from fedclip_plugin.runs.lock import FolderLock
from fedclip_plugin.text import size

_ROLE_OF = {name: role for role, name in ROLES.items()}
_DAY = 86_400


@dataclass(frozen=True)
class Release:
    """The part of a manifest that the person who releases decides.

    Devices of another `product` refuse it. Without a `sequence`, its place in the order of the product's releases, it
    takes the time in UTC seconds. After `valid_days` devices no longer install it; None is for ever. `private_key` is
    the file of the Ed25519 key that signs; `next_keys` are files of public keys that a device which accepts the release
    holds from then on as well.
    """

    product: str
    sequence: int | None = None
    valid_days: int | None = None
    private_key: Path | None = None
    next_keys: tuple[Path, ...] = ()

    def check(self) -> None:
        """See that the private key can sign and the next keys can be read, before anything is made.

        Raises ExportError also for too many next keys, or without a signature.
        """
        if self.private_key is not None:
            sign(b"", self.private_key)
        elif self.next_keys:
            raise ExportError("devices take a next key only from a signed release: sign with --sign KEY")
        if len(self.next_keys) > MAX_NEXT_KEYS:
            raise ExportError(f"{len(self.next_keys)} next keys; a release announces at most {MAX_NEXT_KEYS}")
        load_public_keys(self.next_keys)

    def fields(self, above: int = -1) -> dict[str, Any]:
        """Return the manifest's fields; ConversionError when the sequence asked for does not exceed `above`."""
        now = int(time.time())
        sequence = max(now, above + 1) if self.sequence is None else self.sequence
        if sequence <= above:
            raise ConversionError(
                f"sequence {sequence} is not above {above}, that of the bundle which is updated: devices would "
                "refuse it as a replay; give a higher one, or leave --sequence out"
            )
        return {
            "product": self.product,
            "sequence": sequence,
            "not_before": None,
            "expires": None if self.valid_days is None else now + self.valid_days * _DAY,
            "next_keys": load_public_keys(self.next_keys),
        }

    def summary(self, out: Path, manifest: Manifest) -> str:
        """Return what was released, as text."""
        signed = "NOT SIGNED" if self.private_key is None else f"signed with {self.private_key.name}"
        title = (
            f"{out}: round {manifest.round} of {manifest.method} on {manifest.backbone['name']}, "
            f"{len(manifest.labels)} labels, sequence {manifest.sequence}, {signed}"
        )
        lines = [title, *(_line(name, file) for name, file in sorted(manifest.files.items()))]
        lines += [f"  devices will hold the key {key.id} as well" for key in manifest.next_keys]
        if self.private_key is None:
            lines.append("  devices will refuse it: sign with --sign KEY ('fedclip-export keygen' makes one)")
        return "\n".join(lines)


@contextmanager
def vacant(out: Path) -> Iterator[None]:
    """Keep a folder's name for one export, and see that it can be written, before hours are spent on its content.

    What an export that was killed left beside it is removed. Raises ConversionError when something is there already, or
    its parent cannot be written; FedClipError when another export writes it.
    """
    _require_vacant(out)
    with FolderLock(out.with_name(f".{out.name}.lock"), f"{out}", "give another name").held():
        _require_vacant(out)
        sweep(out.parent, out.name)
        yield


def _require_vacant(out: Path) -> None:
    if os.path.lexists(out):
        raise ConversionError(f"{out} exists; it is never written over: give another name, or remove it first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=out.parent).cleanup()
    except OSError as error:
        raise ConversionError(f"{out} cannot be written: {error.strerror}; give another place") from error


def file_entry(name: str, content: bytes) -> FileEntry:
    """Return the manifest's entry of a file that is carried."""
    return FileEntry(_ROLE_OF[name], len(content), hashlib.sha256(content).hexdigest(), installed=False)


def _line(name: str, file: FileEntry) -> str:
    carried = "on the device" if file.installed else size(file.size)
    return f"  {name:18} {carried:>13}  sha256 {file.sha256[:16]}"
