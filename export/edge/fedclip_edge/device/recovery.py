"""What to do when something on a device is damaged: fall back, tell the way to mend it, and let it be mended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from fedclip_edge.bundle.acceptance import Installed, Trust
from fedclip_edge.bundle.manifest import Manifest
from fedclip_edge.bundle.opening import Bundle, read_base, read_manifest
from fedclip_edge.device.keys import KEYS
from fedclip_edge.device.rounds import BASES, ROUNDS, base_of, open_round, read_head, read_round
from fedclip_edge.device.state import DeviceState
from fedclip_edge.errors import BundleError

FULL_BUNDLE = "export a full bundle (fedclip-export bundle) and install that"
_NO_DAMAGE = ("unsigned", "signature", "runtime-too-old", "graph", "self-test")
_Used = TypeVar("_Used")


def called(folder: Path, name: str) -> str:
    """Return what to call a round that may be damaged: by its number where its manifest can be read."""
    try:
        return f"round {read_manifest(folder / ROUNDS / name, Trust(allow_unsigned=True)).manifest.round}"
    except BundleError:
        return f"the round of sequence {name}"


def is_good(folder: Path, name: str, trust: Trust, *, whole: bool) -> bool:
    """Tell whether a round can be served; without `whole`, by the sizes of its base, whose hashes take long."""
    try:
        if whole:
            open_round(folder, name, trust, None)
            return True
        manifest = read_head(folder, name, trust)[0].manifest
        files = [manifest.file("preprocess"), *manifest.encoder_files().items()]
        place = folder / BASES / base_of(manifest)
        return all((place / file).lstat().st_size == entry.size for file, entry in files)
    except (BundleError, OSError):
        return False


def way_back(folder: Path, state: DeviceState, trust: Trust, but: Set[str | None]) -> str | None:
    """Return the newest round but these that a device can fall back to, None when all are damaged."""
    names = [name for name in (state.current, state.previous) if name is not None and name not in but]
    return next((name for name in names if is_good(folder, name, trust, whole=False)), None)


def installed_parts(folder: Path, state: DeviceState, trust: Trust, *, checked: bool) -> Installed:
    """Return what a device has; while its newest round is damaged, with the sequence below.

    `checked`: the base of the current round was hashed already.
    """
    newest = int(state.current) == state.sequence
    damaged = newest and not is_good(folder, state.current, trust, whole=not checked)
    sequence, manifest = state.sequence - damaged, _newest_manifest(folder, state, trust)
    if manifest is None:
        return Installed(sequence, "", "", 0, not newest)
    return Installed.after(manifest, sequence, not newest)


def open_current(
    folder: Path, state: DeviceState, trust: Trust, runtime: str | None, use: Callable[[Bundle], _Used]
) -> tuple[_Used, str | None]:
    """Use the current round, or the previous one when that fails, and then say why.

    Without a good previous one, refuses with what is wrong with the current round, and how to mend it.
    """
    try:
        return use(open_round(folder, state.current, trust, runtime)), None
    except BundleError as error:
        fault = _explained(folder, state.current, trust, error)
        if state.previous is None:
            raise fault from error
        try:
            used = use(open_round(folder, state.previous, trust, runtime))
        except BundleError:
            raise fault from error
        return used, f"{fault}; until then, {called(folder, state.previous)} answers"


def open_previous(folder: Path, state: DeviceState, trust: Trust, runtime: str | None) -> Bundle:
    """Return the round to go back to; ``device-state`` when there is none, else what is wrong with it."""
    name = state.previous
    if name is None:
        raise BundleError("device-state", f"{folder} has no earlier round to go back to; install one")
    try:
        return open_round(folder, name, trust, runtime)
    except BundleError as error:
        unkeyed = replace(trust, keys=(), allow_unsigned=True)
        if error.reason != "signature" or not is_good(folder, name, unkeyed, whole=False):
            raise
        text = (
            f"{called(folder, name)} is signed by none of the keys in {folder / KEYS}; its key was removed from there"
        )
        raise BundleError(error.reason, text) from error


def completed(folder: Path, update: Bundle) -> Bundle:
    """Return an update with the encoder and preprocess of the device; a full bundle mends what is wrong with these."""
    try:
        base = read_base(folder / BASES / base_of(update.manifest), update.manifest)
    except BundleError as error:
        raise BundleError(
            error.reason, f"the encoder on this device cannot be used ({_fault(error)}); {FULL_BUNDLE}"
        ) from error
    return replace(update, **base._asdict())


def _explained(folder: Path, name: str, trust: Trust, error: BundleError) -> BundleError:
    """Return why the current round cannot be used, with the way to mend it when it is damaged."""
    text = f"{called(folder, name)} on this device cannot be used"
    if error.reason in _NO_DAMAGE:
        return BundleError(error.reason, f"{text} ({error})")
    text = f"{text} ({_fault(error)})"
    try:
        read_head(folder, name, trust)
    except BundleError:
        return BundleError(error.reason, f"{text}; give the same update again")
    return BundleError(error.reason, f"{text}; {FULL_BUNDLE}")


def _fault(error: BundleError) -> str:
    """Return what an error says without its advice, which is for who fetches a delivery."""
    return str(error).rpartition("; ")[0] or str(error)


def _newest_manifest(folder: Path, state: DeviceState, trust: Trust) -> Manifest | None:
    """Return the manifest of the current round, else of the previous one, None when neither can be read.

    One whose key is not held any more still tells which encoder is installed.
    """
    for keys in (trust.keys, ()):
        for name in filter(None, (state.current, state.previous)):
            with contextlib.suppress(BundleError):
                return read_round(folder, name, replace(trust, keys=keys, allow_unsigned=True)).manifest
    return None
