"""The one place where what answers is opened, and replaced while it answers."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fedclip_edge.bundle import Bundle, PublicKey, Trust, open_bundle
from fedclip_edge.device import Device
from fedclip_edge.device.recovery import called
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.runtime.change import Change
from fedclip_edge.runtime.providers import onnxruntime
from fedclip_edge.runtime.self_test import self_test
from fedclip_edge.runtime.sessions import Serving, SessionMaker, build_serving, same_base


class Slot:
    """Holds what answers now: one reference, read by predictions without a lock, replaced under one.

    Parameters
    ----------
    folder
        A full bundle as delivered, or a device folder.
    keys
        Public keys that the caller holds; for a device folder that holds keys, among these.
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
        self._maker, self._keys, self._product = maker, keys, product
        self._runtime = str(onnxruntime().__version__)
        self._lock = threading.Lock()  # one update, rollback or reload at a time
        self._device = Device(folder)
        self._serving: Serving | None = None
        self.fallback = ""
        """Why an older round than the recorded one was opened; empty when it was not."""
        if self._device.exists:
            self._open_stored()
        else:
            self._swap(self._build(open_bundle(folder, self._trust(), runtime=self._runtime)))

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
            old = self.serving
            with suppress(BundleError):  # what cannot be opened any more is what this update may mend
                self._follow()
            new = self._prepare(source)
            # Recording can fail (a full disk); the swap, one assignment, cannot. In this order no answer ever comes
            # from a sequence that a power cut would forget, and nothing is recorded that has not passed its test.
            device.commit(new.bundle, self._keys)
            replaced = new.encoder is not self.serving.encoder
            self._swap(new)
            if replaced:
                self._leave_delivery()
            return _change(old, self.serving)

    def reload(self) -> Change | None:
        """Let the round answer that the device folder names now; None when it does already.

        Raises
        ------
        BundleError
            It cannot be opened or fails its self-test; what answered goes on.
        ExportError
            This is no device folder.
        """
        self._require_device()
        with self._lock:
            old = self.serving
            self._follow()
            change = _change(old, self.serving)
        return None if change.sequence == change.old_sequence else change

    def rollback(self) -> Change:
        """Let the round before answer again.

        Raises
        ------
        BundleError
            There is none, it is damaged or fails its self-test, or another process changed the device meanwhile;
            what answered goes on.
        ExportError
            This is no device folder.
        """
        device = self._require_device()
        with self._lock:
            seen = device.state
            self._follow()
            old, given_up = self.serving, called(device.folder, seen.current) if self.fallback else ""
            new = self._build(device.previous(self._trust(), self._runtime))  # tested first, as an update is
            device.rollback(seen)
            self._swap(new)
        return replace(_change(old, new), given_up=given_up)

    def close(self) -> None:
        """Let the sessions go; predictions under way keep theirs until they end."""
        with self._lock:
            self._serving = None

    def _follow(self) -> None:
        """Serve what the disk names, when that is another round than the one that answers."""
        if self._device.state.current != str(self.serving.bundle.manifest.sequence):
            self._open_stored()

    def _open_stored(self) -> None:
        """Serve the round that the disk names, or the one before when that cannot serve here."""
        new = self._device.serve(self._trust(), self._runtime, self._build)
        self._swap(new, self._device.fallback or "")

    def _leave_delivery(self) -> None:
        """Serve the device's own copy of the encoder: the delivery's file may be deleted."""
        # When the copy cannot be opened (no memory for it, a failing disk), the delivery goes on answering: it has
        # passed its tests and is recorded, and the round before would contradict the disk.
        with suppress(ExportError):
            own = self._device.serve(self._trust(), self._runtime, self._build_apart)
            if self._device.fallback is None:
                self._swap(own)

    def _swap(self, new: Serving, fallback: str = "") -> None:
        self._serving, self.fallback = new, fallback

    def _prepare(self, source: Path) -> Serving:
        """Return tested sessions of what `source` offers, which must fit to what is recorded on disk at this moment."""
        running = self.serving.bundle
        installed = self._device.installed() or running.installed()
        bundle = open_bundle(source, self._trust(), installed=installed, runtime=self._runtime)
        return self._build(bundle if same_base(bundle, running) else self._device.complete(bundle))

    def _build(self, bundle: Bundle) -> Serving:
        """Return tested sessions, on the encoder that runs already where it is the same."""
        return self._tested(build_serving(bundle, self._maker, self._serving))

    def _build_apart(self, bundle: Bundle) -> Serving:
        return self._tested(build_serving(bundle, self._maker))

    def _tested(self, new: Serving) -> Serving:
        self_test(new)
        return new

    def _trust(self) -> Trust:
        """Return what has to be proved by the keys on disk now."""
        return self._device.trust(self._product, self._keys)

    def _require_device(self) -> Device:
        if not self._device.exists:
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
