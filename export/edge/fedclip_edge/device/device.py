"""A device folder: the encoder once, a head for each round, and the memory that nobody can turn back from outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from fedclip_edge.bundle import acceptance
from fedclip_edge.bundle.acceptance import Installed, Trust
from fedclip_edge.bundle.keys import PublicKey
from fedclip_edge.bundle.opening import Bundle, is_left_behind
from fedclip_edge.device.keys import KEYS, add_keys, require_among, store_keys, stored_keys
from fedclip_edge.device.recovery import completed, installed_parts, open_current, open_previous, way_back
from fedclip_edge.device.rounds import BASES, ROUNDS, prune, write_base, write_round
from fedclip_edge.device.state import LOCK, STATE, DeviceState, exclusive, writing
from fedclip_edge.errors import BundleError
from fedclip_edge.files import write_file

_INSTALLING = "installing"
_Used = TypeVar("_Used")


class Device:
    """The installed rounds of one device; every method reads the disk anew, so several processes may share a folder.

    The folder need not exist before :meth:`create`. Damaged or missing records are refused as ``device-state``
    throughout. `fallback` says why the last :meth:`serve` took the previous round instead of the current one; None when
    it did not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fallback: str | None = None
        self._checked: str | None = None  # the round whose base need not be hashed again to know that it is good
        self._unusable: str | None = None  # the current round, when the last `serve` had to do without it

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
        """What the device remembers."""
        return DeviceState.read(self.folder)

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """The keys that are enforced here; none before the first installation."""
        return self._keys(self.state) if self.exists else ()

    def trust(self, product: str, keys: Sequence[PublicKey] = (), allow_unsigned: bool = False) -> Trust:
        """Return what a bundle has to prove: the product, and signed by one of the keys that are stored here.

        The device's own product must be the one given. `keys` must be among the stored ones (else ExportError); where
        none is stored, one of these must have signed. `allow_unsigned`: hashes alone are enough where no key is stored
        or given.
        """
        if self.exists and (own := self.state.product) != product:
            raise BundleError("product", f"the device folder {self.folder} is for {own!r}, not for {product!r}")
        stored = self.keys
        require_among(self.folder, stored, keys)
        return Trust(stored or tuple(keys), product, allow_unsigned)

    def installed(self) -> Installed | None:
        """Return what the device has and the highest sequence it ever accepted; None before the first installation.

        While the round of that sequence is the current one and is damaged, the sequence below is told: the round may be
        installed again.
        """
        return self._installed(self.state) if self.exists else None

    def complete(self, bundle: Bundle) -> Bundle:
        """Return an update with the encoder and preprocess of this device, checked; a full bundle as it is."""
        return bundle if bundle.encoder is not None else completed(self.folder, bundle)

    def create(self, bundle: Bundle, keys: Sequence[PublicKey] = ()) -> None:
        """Install the first, full bundle; keys given now, and those it announces, are enforced for ever after.

        Refuses with ``incomplete`` an update, with ``unsigned`` what none of the keys signed, with ``device-state`` a
        folder that is in use or cannot be written.
        """
        if bundle.manifest.is_update:
            raise BundleError("incomplete", "the first installation needs a full bundle; this is an update")
        _require_signed(bundle, keys)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._require_vacant()
            with exclusive(self.folder):
                self._require_vacant()
                write_file(self.folder / _INSTALLING, b"")
                store_keys(self.folder, _with_next(keys, bundle))
                self._install(bundle, None, keyed=bool(keys))
                (self.folder / _INSTALLING).unlink()

    def commit(self, bundle: Bundle, keys: Sequence[PublicKey] = ()) -> None:
        """Make a checked bundle or update the current round; a crash at any moment leaves the old one or the new one.

        It comes from :func:`open_bundle` with this device's :meth:`trust` and :meth:`installed`, and is refused when
        the device changed in between. Keys that it announces are stored first, when one that is held has signed it;
        `keys` are stored afterwards, and enforced for ever after, when the device holds none.
        """
        with writing(self.folder), exclusive(self.folder):
            state = self.state
            held, installed = self._keys(state), self._installed(state)
            trust = self._own_trust(state, held or tuple(keys))
            acceptance.check_product(bundle.manifest, state.product, on_device=True)
            acceptance.check_sequence(bundle.manifest, installed)
            acceptance.check_parts(bundle.manifest, installed)
            _require_signed(bundle, trust.keys)
            previous = way_back(self.folder, state, trust, {str(bundle.manifest.sequence), self._unusable})
            if held:
                add_keys(self.folder, held, bundle.manifest.next_keys)
            self._install(bundle, previous, keyed=state.keyed or bool(held))
            if keys and not held:
                # In this order a crash leaves no moment at which keys are enforced that are not there.
                store_keys(self.folder, _with_next(keys, bundle))
                replace(self.state, keyed=True).write(self.folder)

    def current(self, trust: Trust, runtime: str | None = None) -> Bundle:
        """Return the round that :meth:`serve` would use, with the same parameters and errors."""
        return self.serve(trust, runtime, lambda bundle: bundle)

    def serve(self, trust: Trust, runtime: str | None, use: Callable[[Bundle], _Used]) -> _Used:
        """Check the current round and its base again, and use it; when that fails, the previous one.

        `use` gets a full bundle, be it expired or not, and raises BundleError when that cannot serve here. `runtime` is
        the version of onnxruntime; None leaves out that check. When neither round can serve, the error is the current
        one's.
        """
        state, self._checked, self._unusable = self.state, None, None
        used, self.fallback = open_current(self.folder, state, trust, runtime, use)
        self._checked, self._unusable = (state.current, None) if self.fallback is None else (None, state.current)
        return used

    def previous(self, trust: Trust, runtime: str | None = None) -> Bundle:
        """Check the previous round and its base, and return it; parameters as for :meth:`serve`."""
        return open_previous(self.folder, self.state, trust, runtime)

    def rollback(self, seen: DeviceState | None = None) -> None:
        """Make the previous round the current one again; what was rolled back is not accepted a second time.

        `seen` is the state that the caller acts upon: ``device-state`` when another process changed it since.
        """
        with writing(self.folder), exclusive(self.folder):
            state = self.state
            if seen not in (None, state):
                raise BundleError("device-state", f"another process changed {self.folder} meanwhile; try again")
            open_previous(self.folder, state, self._own_trust(state, self._keys(state)), None)
            replace(state, current=str(state.previous), previous=None).write(self.folder)

    def _keys(self, state: DeviceState) -> tuple[PublicKey, ...]:
        return stored_keys(self.folder, keyed=state.keyed)

    @staticmethod
    def _own_trust(state: DeviceState, keys: Sequence[PublicKey]) -> Trust:
        """Return what the rounds that were accepted here have to prove; without keys, that is no signature."""
        return Trust(tuple(keys), state.product, allow_unsigned=True)

    def _installed(self, state: DeviceState) -> Installed:
        trust, checked = self._own_trust(state, self._keys(state)), state.current == self._checked
        return installed_parts(self.folder, state, trust, checked=checked)

    def _install(self, bundle: Bundle, previous: str | None, *, keyed: bool) -> None:
        name, product = str(bundle.manifest.sequence), bundle.manifest.product
        write_base(self.folder, bundle)
        write_round(self.folder, bundle)
        DeviceState(product, bundle.manifest.sequence, name, previous, keyed).write(self.folder)
        self._checked = name
        prune(self.folder, {name} if previous is None else {name, previous}, Trust((), product, allow_unsigned=True))

    def _require_vacant(self) -> None:
        if self.exists:
            raise BundleError("device-state", f"{self.folder} is a device folder already; update it, or name a new one")
        found = {path.name for path in self.folder.iterdir() if path.suffix != ".tmp" and not is_left_behind(path.name)}
        strange = found - {ROUNDS, BASES, KEYS, LOCK, _INSTALLING}
        if strange:
            raise BundleError(
                "device-state",
                f"{self.folder} holds other things ({', '.join(sorted(strange))[:200]}); name a new folder",
            )


def _with_next(keys: Sequence[PublicKey], bundle: Bundle) -> tuple[PublicKey, ...]:
    """Return keys, one of which signed the bundle, and those that it announces."""
    return tuple(dict.fromkeys((*keys, *bundle.manifest.next_keys))) if keys else ()


def _require_signed(bundle: Bundle, keys: Sequence[PublicKey]) -> None:
    if keys and bundle.key_id not in {key.id for key in keys}:
        raise BundleError("unsigned", "none of the keys that the device is to hold signed this bundle")
