"""Make a device folder from a delivered bundle, or mend one; and what an update changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedclip_edge.arguments import as_flag, as_path
from fedclip_edge.bundle import open_bundle
from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.device import Device
from fedclip_edge.errors import ExportError
from fedclip_edge.runtime.providers import onnxruntime
from fedclip_edge.runtime.self_test import build_tested
from fedclip_edge.runtime.sessions import Serving, SessionMaker


@dataclass(frozen=True)
class Change:
    """One head, or one whole bundle, in the place of another.

    `given_up` is what to call a damaged round that a rollback left, while the round before had answered in its place;
    empty otherwise.
    """

    old_round: int
    old_sequence: int
    round: int
    sequence: int
    encoder_replaced: bool
    labels_added: tuple[str, ...]
    labels_removed: tuple[str, ...]
    given_up: str = ""


def change_between(old: Serving, new: Serving) -> Change:
    """Return what is different where `new` answers in the place of `old`."""
    before, after = old.bundle.manifest, new.bundle.manifest
    return Change(
        old_round=before.round,
        old_sequence=before.sequence,
        round=after.round,
        sequence=after.sequence,
        encoder_replaced=new.encoder is not old.encoder,
        labels_added=tuple(label for label in after.labels if label not in before.labels),
        labels_removed=tuple(label for label in before.labels if label not in after.labels),
    )


def install(
    device: str | Path,
    source: str | Path,
    *,
    keys: Sequence[str | Path] = (),
    product: str = "fedclip",
    allow_unsigned: bool = False,
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
    allow_unsigned, provider, threads
        As of `EdgeClassifier`.

    Raises
    ------
    BundleError
        The bundle is refused, fails its self-test, or the folder is in use.
    ExportError
        One of the keys is not among those that the device holds, or an argument is of the wrong kind.
    """
    target, held = Device(as_path(device, "device", ExportError)), load_public_keys(keys)
    delivered = as_path(source, "source", ExportError)
    maker, version = SessionMaker.choose(provider, threads, spinning=False), str(onnxruntime().__version__)
    trust = target.trust(product, held, as_flag(allow_unsigned, "allow_unsigned", ExportError))
    bundle = target.complete(open_bundle(delivered, trust, installed=target.installed(), runtime=version))
    build_tested(bundle, maker)
    if target.exists:
        target.commit(bundle, held)
    else:
        target.create(bundle, held)
