"""Make a device folder from a delivered bundle, or mend one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedclip_edge.bundle import open_bundle
from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.device import Device
from fedclip_edge.runtime.providers import onnxruntime
from fedclip_edge.runtime.self_test import self_test
from fedclip_edge.runtime.sessions import SessionMaker, build_serving


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

    To a device folder that is there already, an update or a full bundle is installed by the same rules as
    `EdgeClassifier.update`, but without opening what is there: this mends a device that cannot be opened.

    Parameters
    ----------
    device
        Folder to make, or to mend.
    source
        A full bundle, or an update.
    keys
        Public keys (PEM), any one of which must have signed; they are stored with a device that holds none, which
        from then on accepts nothing that none of them signed.
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
    ExportError
        One of the keys is not among those that the device holds.
    """
    target, held = Device(Path(device)), load_public_keys([Path(key) for key in keys])
    maker, version = SessionMaker.choose(provider, threads, spinning=False), str(onnxruntime().__version__)
    trust = target.trust(product, held)
    bundle = target.complete(open_bundle(Path(source), trust, installed=target.installed(), runtime=version))
    self_test(build_serving(bundle, maker))
    if target.exists:
        target.commit(bundle, held)
    else:
        target.create(bundle, held)
