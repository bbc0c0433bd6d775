"""Whether a bundle, by what its manifest says, may be taken by this device now."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from fedclip_edge.bundle.keys import PublicKey
from fedclip_edge.bundle.manifest import Manifest
from fedclip_edge.errors import BundleError, ExportError


@dataclass(frozen=True)
class Trust:
    """What a bundle has to prove: signed by any one of the keys, and for this product.

    With `allow_unsigned`, hashes alone are enough when no key is held.
    """

    keys: tuple[PublicKey, ...] = ()
    product: str = "fedclip"
    allow_unsigned: bool = False


@dataclass(frozen=True)
class Installed:
    """What a device has, to which the next bundle must fit.

    `sequence` is the highest ever accepted; one less when that round is damaged, so that it may be installed again.
    `encoder` (see :meth:`Manifest.encoder_digest`) and `preprocess` are hashes as 64 hex digits, empty when no
    installed round can be read: only a full bundle fits then. `rolled_back`: the round of that sequence was left by a
    local rollback.
    """

    sequence: int
    encoder: str
    preprocess: str
    feature_dim: int
    rolled_back: bool = False

    @classmethod
    def after(cls, manifest: Manifest, sequence: int | None = None, rolled_back: bool = False) -> Installed:
        """Return what a device has once a manifest is installed; `sequence` is the manifest's unless it is given."""
        preprocess = manifest.file("preprocess")[1].sha256
        highest = manifest.sequence if sequence is None else sequence
        return cls(highest, manifest.encoder_digest(), preprocess, manifest.feature_dim, rolled_back)


def check_product(manifest: Manifest, product: str, *, on_device: bool = False) -> None:
    """Refuse a bundle for another product than is wanted, or than the device's (``product``)."""
    if manifest.product != product:
        what = f"the bundle is for the product {manifest.product!r}"
        raise BundleError(
            "product",
            f"{what}, this device is {product!r}; fetch its own"
            if on_device
            else f"{what}, so --product {product} does not fit; give the one that it is for",
        )


def check_sequence(manifest: Manifest, installed: Installed) -> None:
    """Refuse what was accepted before, or anything older (``replay``, ``rollback``)."""
    highest = installed.sequence
    if manifest.sequence == highest and installed.rolled_back:
        raise BundleError(
            "replay",
            f"sequence {highest} was accepted before and left by a rollback; export the round again, it then gets a "
            "new sequence",
        )
    if manifest.sequence == highest:
        raise BundleError("replay", f"sequence {highest} was accepted before; there is nothing to install")
    if manifest.sequence < highest:
        raise BundleError(
            "rollback",
            f"sequence {manifest.sequence} is older than {highest}, which was accepted before; to go back on purpose, "
            "use the local rollback, or export the old round again with a new sequence",
        )


def check_time(manifest: Manifest, now: float) -> None:
    """Refuse a bundle before its time or after it (``not-yet-valid``, ``expired``)."""
    if manifest.not_before is not None and now < manifest.not_before:
        raise BundleError(
            "not-yet-valid", f"the bundle is valid from {utc(manifest.not_before)}; check this device's clock, or wait"
        )
    if manifest.expires is not None and now >= manifest.expires:
        raise BundleError(
            "expired",
            f"the bundle expired at {utc(manifest.expires)}; check this device's clock, or fetch a newer one",
        )


def check_runtime(manifest: Manifest, runtime: str) -> None:
    """Refuse a bundle that needs a newer onnxruntime (``runtime-too-old``)."""
    lowest = manifest.onnxruntime["lowest"]
    if _version(runtime) < _version(lowest):
        raise BundleError(
            "runtime-too-old",
            f"the bundle needs onnxruntime {lowest} or newer, this is {runtime}; install a newer onnxruntime",
        )


def check_parts(manifest: Manifest, installed: Installed | None) -> None:
    """Refuse an update whose head was made for other parts than the device has.

    The reason is ``incomplete``, ``other-encoder``, ``other-preprocess`` or ``feature-width``.
    """
    if not manifest.is_update:
        return
    if installed is None or not installed.encoder:
        raise BundleError("incomplete", "this is an update, without an encoder; install a full bundle first")
    full = "ask for a full bundle, or for an update made against the bundle of this device"
    if manifest.encoder_digest() != installed.encoder:
        raise BundleError("other-encoder", f"the update was made for another encoder than is installed; {full}")
    if manifest.file("preprocess")[1].sha256 != installed.preprocess:
        raise BundleError("other-preprocess", f"the update was made for another preprocess than is installed; {full}")
    if manifest.feature_dim != installed.feature_dim:
        raise BundleError(
            "feature-width",
            f"the update takes {manifest.feature_dim} features, the installed encoder gives {installed.feature_dim}; "
            f"{full}",
        )


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", text)
    if not found:
        raise ExportError(f"{text!r} is not a version of onnxruntime; give one such as 1.26.0")
    numbers = [int(part) for part in found[0].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def utc(seconds: int) -> str:
    """Return a moment as text; beyond the calendar's end in seconds."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s UTC"
