"""Open the folder that a command names, or say what it is instead."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedclip_edge.bundle.signed_manifest import MANIFEST
from fedclip_edge.device import Device
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.runtime.edge_classifier import EdgeClassifier

FIRST = "the first argument is a bundle or a device folder"


def require_folder(folder: Path, what: str = FIRST) -> None:
    """Refuse a name that is no folder.

    Parameters
    ----------
    folder
        As the user named it.
    what
        Which folder is meant, for who named a file.

    Raises
    ------
    ExportError
        There is none, or it is a file.
    """
    if not folder.exists():
        raise ExportError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; {what}")


def require_no_bundle(folder: Path) -> None:
    """Refuse a file, or a bundle as delivered, where a device folder is meant, be it a new one.

    Raises
    ------
    ExportError
        It is one of these.
    """
    if folder.exists():
        require_folder(folder, "the first argument is a device folder")
    if (folder / MANIFEST).exists() and not Device(folder).exists:
        raise ExportError(
            f"{folder} is a bundle as delivered, not a device folder; name a new folder, to which "
            f"'fedclip-edge update DEVICE {folder}' installs it"
        )


def open_classifier(folder: Path, options: argparse.Namespace) -> EdgeClassifier:
    """Return what a bundle or a device folder serves.

    Raises
    ------
    ExportError
        As :func:`require_folder`, or as `EdgeClassifier`.
    """
    require_folder(folder)
    return EdgeClassifier(
        folder, keys=options.keys, product=options.product, provider=options.provider, threads=options.threads
    )


def open_if_sound(folder: Path, options: argparse.Namespace) -> EdgeClassifier | None:
    """Return what a device folder serves; None when it is not there yet or refused, and has to be installed to."""
    if not Device(folder).exists:
        return None
    try:
        return open_classifier(folder, options)
    except BundleError:  # the installation that follows mends it, or says why it cannot
        return None
