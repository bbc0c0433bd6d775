"""Make a device folder from a delivered bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedclip_export.bundle import Device
from fedclip_export.bundle.keys import load_public_keys
from fedclip_export.runtime.sessions import SessionMaker
from fedclip_export.runtime.slot import Slot


def install(
    device: str | Path,
    source: str | Path,
    *,
    keys: Sequence[str | Path] = (),
    product: str = "fedclip",
    provider: str = "auto",
    threads: int | None = None,
) -> None:
    """Install a full bundle to a new device folder, after it was verified and has passed its self-test.

    Parameters
    ----------
    device
        Folder to make.
    source
        A full bundle.
    keys
        Public keys (PEM), any one of which must have signed; they are stored with the device, which from then on
        accepts nothing that none of them signed.
    product
        The product that this bundle and every update must name.
    provider
        Where the encoder is tested: ``auto``, ``cpu`` or ``cuda``.
    threads
        For that test; None takes the cores that this process may use.

    Raises
    ------
    BundleError
        The bundle is refused, fails its self-test, or the folder is in use.
    """
    held = load_public_keys([Path(key) for key in keys])
    slot = Slot(Path(source), held, product, SessionMaker.choose(provider, threads, spinning=False))
    Device(Path(device)).create(slot.serving.bundle, held)
