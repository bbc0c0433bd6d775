"""The public keys that a device folder keeps; once it holds any, no others count."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from fedclip_edge.bundle.keys import PublicKey, load_public_keys
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.files import fill, new_folder, write_file

KEYS = "keys"


def store_keys(folder: Path, keys: Sequence[PublicKey]) -> None:
    """Keep exactly these keys as ``keys/<id>.pub``; what an interrupted installation left is removed."""
    place = folder / KEYS
    if keys:
        with new_folder(place) as temporary:
            fill(temporary, {f"{key.id}.pub": key.pem for key in keys})
    elif place.exists():
        shutil.rmtree(place)


def add_keys(folder: Path, held: Sequence[PublicKey], announced: Sequence[PublicKey]) -> None:
    """Keep those keys too that a bundle signed by a held one announces."""
    for key in announced:
        if key not in held:
            write_file(folder / KEYS / f"{key.id}.pub", key.pem)


def require_among(folder: Path, stored: Sequence[PublicKey], given: Sequence[PublicKey]) -> None:
    """Refuse a key that is given to a device which holds others, so that no call adds trust silently."""
    ids = [key.id for key in stored]
    for key in given:
        if stored and key.id not in ids:
            raise ExportError(
                f"{folder} enforces its own keys ({', '.join(ids)}); {key.path or 'the key that was given'} ({key.id}) "
                f"is not one of them. To rotate, copy the .pub into {folder / KEYS}"
            )


def stored_keys(folder: Path, *, keyed: bool) -> tuple[PublicKey, ...]:
    """Return the keys that are kept; a device that is `keyed` by its records and has lost them enforces them no less.

    Refuses with ``device-state`` when one of them is damaged, they cannot be read, or all of a keyed device's are gone.
    """
    place = folder / KEYS
    try:
        keys = load_public_keys(sorted(path for path in place.iterdir() if path.name.endswith(".pub")))
    except FileNotFoundError:
        keys = ()
    except (ExportError, OSError) as error:
        raise _unreadable(folder, str(error)) from error
    if keyed and not keys:
        raise _unreadable(folder, f"{place} holds none, and this device takes only what its keys have signed")
    return keys


def _unreadable(folder: Path, what: str) -> BundleError:
    return BundleError(
        "device-state",
        f"the keys of the device folder {folder} cannot be used ({what}); put the .pub back into {folder / KEYS}",
    )
