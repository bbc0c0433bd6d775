"""The one place where what answers is opened, and replaced while it answers."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from fedclip_export.bundle import Bundle, Device, Installed, PublicKey, Trust, open_bundle
from fedclip_export.bundle.device_rounds import open_round
from fedclip_export.errors import ExportError
from fedclip_export.runtime.change import Change
from fedclip_export.runtime.providers import onnxruntime
from fedclip_export.runtime.selftest import self_test
from fedclip_export.runtime.serving import Serving, build_serving, same_base
from fedclip_export.runtime.sessions import SessionMaker


class Slot:
    """Holds what answers now: one reference, read by predictions without a lock, replaced under one.

    Parameters
    ----------
    folder
        A full bundle as delivered, or a device folder.
    keys
        Public keys that the caller holds; a device folder adds its own.
    product
        The product that every bundle must name.
    maker
        How sessions are made here.

    Raises
    ------
    BundleError
        The folder is refused, or fails its self-test.
    """

    def __init__(self, folder: Path, keys: tuple[PublicKey, ...], product: str, maker: SessionMaker) -> None:
        self._maker = maker
        self._runtime = str(onnxruntime().__version__)
        self._lock = threading.Lock()  # one update or rollback at a time
        device = Device(folder)
        self._device = device if device.exists else None
        self._trust = device.trust(product, keys) if self._device else Trust(keys, product)
        self._serving: Serving | None = None
        self._serving = self._build(self._stored() if self._device else self._delivered(folder, None))
        self.fallback = device.fallback or ""
        """Why an older round than the recorded one was opened; empty when it was not."""

    @property
    def serving(self) -> Serving:
        """What answers now.

        Raises
        ------
        ExportError
            After `close`.
        """
        serving = self._serving
        if serving is None:
            raise ExportError("this EdgeClassifier is closed: open another")
        return serving

    def check(self, source: Path) -> Serving:
        """Return what `source` offers, verified and self-tested as `update` would, without installing it.

        Raises
        ------
        BundleError
            `update` would refuse it.
        """
        with self._lock:
            return self._prepare(source)

    def update(self, source: Path) -> Change:
        """Install a newer round and let it answer.

        Raises
        ------
        BundleError
            It is refused, fails its self-test or cannot be recorded; what answered goes on.
        ExportError
            This is no device folder.
        """
        device = self._require_device()
        with self._lock:
            old, new = self.serving, self._prepare(source)
            # Recording can fail (a full disk); the swap, one assignment, cannot. In this order no answer ever comes
            # from a sequence that a power cut would forget, and nothing is recorded that has not passed its test.
            device.commit(new.bundle)
            if new.encoder is not old.encoder:  # from the device's own copy: the delivery may be overwritten or deleted
                new = self._build(self._stored())
            self._swap(new)
        return _change(old, new)

    def rollback(self) -> Change:
        """Let the round before answer again.

        Raises
        ------
        BundleError
            There is none, or it is damaged or fails its self-test; what answered goes on.
        ExportError
            This is no device folder.
        """
        device = self._require_device()
        with self._lock:
            old, previous = self.serving, device.state.previous
            new = old
            if previous is not None:  # tested before it is recorded, as an update is
                new = self._build(open_round(device.folder, previous, self._trust, self._runtime))
            device.rollback()
            self._swap(new)
        return _change(old, new)

    def close(self) -> None:
        """Let the sessions go; predictions under way keep theirs until they end."""
        with self._lock:
            self._serving = None

    def _swap(self, new: Serving) -> None:
        self._serving, self.fallback = new, ""

    def _prepare(self, source: Path) -> Serving:
        """Return tested sessions of what `source` offers, which must fit to what is recorded on disk at this moment."""
        installed = self._device.installed() if self._device else self.serving.bundle.installed()
        bundle = self._delivered(source, installed)
        if bundle.encoder is None and not same_base(bundle, self.serving.bundle):  # another process changed the encoder
            stored = self._stored()
            bundle = replace(bundle, encoder=stored.encoder, preprocess=stored.preprocess)
        return self._build(bundle)

    def _build(self, bundle: Bundle) -> Serving:
        new = build_serving(bundle, self._maker, self._serving)
        self_test(new)
        return new

    def _delivered(self, source: Path, installed: Installed | None) -> Bundle:
        return open_bundle(source, self._trust, installed=installed, runtime=self._runtime)

    def _stored(self) -> Bundle:
        return self._require_device().current(self._trust, self._runtime)

    def _require_device(self) -> Device:
        if self._device is None:
            raise ExportError("a bundle as delivered stays as it is: install it to a device folder, and open that")
        return self._device


def _change(old: Serving, new: Serving) -> Change:
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
