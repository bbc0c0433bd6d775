"""A device folder: the encoder once, a head for each round, and the memory that nobody can turn back from outside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedclip_export.bundle import rules
from fedclip_export.bundle.device_keys import KEYS, store_keys, stored_keys
from fedclip_export.bundle.device_rounds import (
    BASES,
    ROUNDS,
    newest_good,
    newest_manifest,
    open_round,
    prune,
    write_base,
    write_round,
)
from fedclip_export.bundle.device_state import LOCK, STATE, DeviceState, exclusive, writing
from fedclip_export.bundle.durable import write_file
from fedclip_export.bundle.keys import PublicKey
from fedclip_export.bundle.opening import Bundle
from fedclip_export.bundle.rules import Installed, Trust
from fedclip_export.errors import BundleError

_INSTALLING = "installing"


class Device:
    """The installed rounds of one device; every method reads the disk anew, so several processes may share a folder.

    Parameters
    ----------
    folder
        Need not exist before :meth:`create`.

    Attributes
    ----------
    fallback
        Why the last :meth:`current` gave the previous round instead of the current one; None when it did not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fallback: str | None = None
        self._given: tuple[PublicKey, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether something was installed here, be it damaged or not.

        A first installation that was interrupted does not count: it may be repeated.
        """
        if os.path.lexists(self.folder / STATE):
            return True
        return (self.folder / ROUNDS).exists() and not (self.folder / _INSTALLING).exists()

    @property
    def state(self) -> DeviceState:
        """What the device remembers.

        Raises
        ------
        BundleError
            ``device-state`` when its records are damaged or missing.
        """
        return DeviceState.read(self.folder)

    def trust(self, product: str, keys: Sequence[PublicKey] = ()) -> Trust:
        """Return what a new bundle has to prove: signed by one of ``keys`` or of those stored here, and the product.

        The keys count for this object from now on, also when it looks at rounds that are installed already.

        Raises
        ------
        BundleError
            ``product`` when the device is another product's; ``device-state`` when a stored key is damaged.
        """
        if self.exists and (own := self.state.product) != product:
            raise BundleError("product", f"the device folder {self.folder} is for {own!r}, not for {product!r}")
        self._given = tuple(keys)
        return self._own_trust(product)

    def installed(self) -> Installed | None:
        """Return what the device has and the highest sequence it ever accepted; None before the first installation.

        Raises
        ------
        BundleError
            ``device-state``, or why neither the current nor the previous round can be read.
        """
        if not self.exists:
            return None
        state = self.state
        manifest = newest_manifest(self.folder, state, self._own_trust(state.product))
        preprocess = manifest.file("preprocess")[1].sha256
        return Installed(state.sequence, manifest.encoder_digest(), preprocess, manifest.feature_dim)

    def create(self, bundle: Bundle, keys: Sequence[PublicKey] = ()) -> None:
        """Install the first bundle; keys given now are stored, and enforced for ever after.

        Parameters
        ----------
        bundle
            A full bundle from :func:`open_bundle`.
        keys
            Public keys, one of which signed it.

        Raises
        ------
        BundleError
            ``incomplete`` for an update, ``unsigned`` when none of the keys signed it, ``device-state`` when the
            folder is in use or cannot be written.
        """
        if bundle.manifest.is_update:
            raise BundleError("incomplete", "the first installation needs a full bundle; this is an update")
        if keys and bundle.key_id not in {key.id for key in keys}:
            raise BundleError("unsigned", "none of the keys to be stored on the device signed this bundle")
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._require_vacant()
            with exclusive(self.folder):
                self._require_vacant()
                write_file(self.folder / _INSTALLING, b"")
                store_keys(self.folder, keys)
                self._install(bundle, None)
                (self.folder / _INSTALLING).unlink()

    def commit(self, bundle: Bundle) -> None:
        """Make a checked bundle or update the current round; a crash at any moment leaves the old one or the new one.

        Parameters
        ----------
        bundle
            From :func:`open_bundle` with this device's :meth:`trust` and :meth:`installed`.

        Raises
        ------
        BundleError
            ``product``, ``replay``, ``rollback``, ``unsigned`` or ``other-...`` when the device changed in between;
            ``device-state`` when its records are damaged or it cannot be written.
        """
        with writing(self.folder), exclusive(self.folder):
            state = self.state
            rules.check_product(bundle.manifest, state.product)
            rules.check_sequence(bundle.manifest, state.sequence)
            rules.check_parts(bundle.manifest, self.installed())
            if bundle.key_id is None and stored_keys(self.folder):
                raise BundleError("unsigned", "the device holds keys, but this bundle was opened without them")
            self._install(bundle, newest_good(self.folder, state, self._own_trust(state.product)))

    def current(self, trust: Trust, runtime: str | None = None) -> Bundle:
        """Check the current round and its base again, and return it; when it is damaged, the previous one.

        Parameters
        ----------
        trust
            From :meth:`trust`.
        runtime
            Version of onnxruntime; None leaves out that check.

        Returns
        -------
        Bundle
            Always full; :attr:`fallback` says so when it is the previous round. One that has expired goes on serving.

        Raises
        ------
        BundleError
            What is wrong with the current round, when there is no good previous one either; or ``device-state``.
        """
        state, self.fallback = self.state, None
        try:
            return open_round(self.folder, state.current, trust, runtime)
        except BundleError as error:
            if state.previous is None:
                raise
            try:
                bundle = open_round(self.folder, state.previous, trust, runtime)
            except BundleError as second:
                raise error from second
            self.fallback = (
                f"round {state.current} on this device cannot be used ({error}); serving {state.previous} instead"
            )
            return bundle

    def rollback(self) -> None:
        """Make the previous round the current one again; what was rolled back is not accepted a second time.

        Raises
        ------
        BundleError
            ``device-state`` when there is no previous round or the folder cannot be written; what is wrong with the
            previous round when that is damaged.
        """
        with writing(self.folder), exclusive(self.folder):
            state = self.state
            if state.previous is None:
                raise BundleError("device-state", f"{self.folder} has no earlier round to go back to; install one")
            open_round(self.folder, state.previous, self._own_trust(state.product), None)
            replace(state, current=state.previous, previous=None).write(self.folder)

    def _install(self, bundle: Bundle, previous: str | None) -> None:
        name, product = str(bundle.manifest.sequence), bundle.manifest.product
        write_base(self.folder, bundle)
        write_round(self.folder, bundle)
        DeviceState(product, bundle.manifest.sequence, name, previous).write(self.folder)
        prune(self.folder, {name} if previous is None else {name, previous}, Trust((), product))

    def _own_trust(self, product: str) -> Trust:
        stored = stored_keys(self.folder) if self.exists else ()
        return Trust(tuple({key.id: key for key in (*self._given, *stored)}.values()), product)

    def _require_vacant(self) -> None:
        if self.exists:
            raise BundleError("device-state", f"{self.folder} is a device folder already; update it, or name a new one")
        strange = {path.name for path in self.folder.iterdir()} - {ROUNDS, BASES, KEYS, LOCK, _INSTALLING}
        strange = {name for name in strange if not name.endswith(".tmp")}
        if strange:
            raise BundleError(
                "device-state",
                f"{self.folder} holds other things ({', '.join(sorted(strange))[:200]}); name a new folder",
            )
