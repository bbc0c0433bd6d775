"""Writing a bundle: whole or not at all, and only what a device would take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fedclip_edge.bundle import keys
from fedclip_edge.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from fedclip_edge.bundle.opening import SignedManifest, read_files
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.files import copy_listed, fill, new_folder


def write_bundle(folder: Path, manifest: Manifest, files: Mapping[str, bytes | Path], private_key: Path | None) -> None:
    """Write a bundle or an update as a new folder, signed when a key (PEM) is given; its parent is made.

    What was written is checked as a device would check it before the folder takes its name. `files` are by name
    content, or a file to copy (a large encoder), for each file that the manifest does not call installed. Raises
    ExportError when the folder exists, cannot be written, or the key is no good; BundleError when files and manifest do
    not fit together, or break a rule. Nothing is left then.
    """
    if os.path.lexists(folder):
        raise ExportError(f"{folder} exists; bundles are never overwritten: choose another name, or remove it")
    raw = manifest.to_bytes()
    checked = Manifest.from_bytes(raw)
    if set(files) != set(checked.carried()):
        raise BundleError(
            "unlisted-file",
            f"given are the files {', '.join(sorted(files))}, but the manifest carries "
            f"{', '.join(sorted(checked.carried()))}; give exactly those",
        )
    signature = None if private_key is None else keys.sign(raw, private_key)
    small = {MANIFEST: raw} | ({} if signature is None else {SIGNATURE: signature})
    small |= {name: content for name, content in files.items() if isinstance(content, bytes)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as temporary:
            fill(temporary, small)
            for name, source in files.items():
                if isinstance(source, Path):
                    copy_listed(source, temporary / name, checked.files[name].size, checked.files[name].sha256)
            read_files(temporary, SignedManifest(checked, raw, signature, None))
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror}; nothing was left there") from error
