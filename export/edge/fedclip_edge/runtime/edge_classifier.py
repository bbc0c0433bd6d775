"""Predict with a bundle, and replace its head while predictions run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from fedclip_edge.bundle import Bundle, Manifest
from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.errors import ExportError
from fedclip_edge.images import MAX_PIXELS, ImageLike, read_rgb
from fedclip_edge.runtime.change import Change
from fedclip_edge.runtime.live_bundle import Slot
from fedclip_edge.runtime.prediction import Prediction
from fedclip_edge.runtime.providers import clash
from fedclip_edge.runtime.sessions import Array, Serving, SessionMaker

UNCHECKED: str = "signature not checked (no key): hashes were checked, the origin was not"
"""The warning of a bundle that was opened without a key."""


class EdgeClassifier:
    """An image classifier from a bundle, safe to call from several threads, also while it is updated.

    Opening verifies the bundle and runs its golden inputs. A prediction reads what it uses once, at its start, so
    all of it comes from one round. Usable as a context manager.

    Parameters
    ----------
    folder
        A full bundle as delivered, or a device folder (made by `install`), which alone can be updated.
    keys
        Public keys (PEM) any one of which must have signed; none checks hashes only. Of a device folder that holds
        keys only its own count, and these must be among them; one that holds none keeps these from its next update
        on.
    product
        The product that the bundle must name.
    provider
        Where the encoder runs: ``auto`` (CUDA where it loads, else the CPU), ``cpu`` or ``cuda``.
    threads
        Threads of preprocessing and encoder; None takes the cores that this process may use.
    spinning
        Let idle threads burn their core: a little faster, unkind to whatever else runs there.
    max_pixels
        Largest image that is decoded, width x height.

    Raises
    ------
    BundleError
        The folder is refused; `reason` says by which rule.
    ProviderError
        The provider cannot be used.
    MissingPackageError
        onnxruntime, or for keys cryptography, is missing.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keys: Sequence[str | Path] = (),
        product: str = "fedclip",
        provider: str = "auto",
        threads: int | None = None,
        spinning: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._max_pixels = max_pixels
        self._maker = SessionMaker.choose(provider, threads, spinning)
        self._slot = Slot(Path(folder), load_public_keys([Path(key) for key in keys]), product, self._maker)

    @property
    def serving(self) -> Serving:
        """What answers now: the verified bundle and its sessions."""
        return self._slot.serving

    @property
    def manifest(self) -> Manifest:
        """The manifest of the round that answers now."""
        return self.serving.bundle.manifest

    @property
    def labels(self) -> tuple[str, ...]:
        """The C labels, in the order of the logits."""
        return self.manifest.labels

    @property
    def round(self) -> int:
        """The federation round that answers now."""
        return self.manifest.round

    @property
    def sequence(self) -> int:
        """The sequence of the bundle that answers now."""
        return self.manifest.sequence

    @property
    def key_id(self) -> str | None:
        """The key that signed what answers now; None when no key was held to check it."""
        return self.serving.bundle.key_id

    @property
    def provider(self) -> str:
        """Where the encoder runs, by onnxruntime's name, such as ``CPUExecutionProvider``."""
        return self._maker.providers[0]

    @property
    def fallback(self) -> str:
        """Why an older round answers than the one that the device folder names; empty when it does not."""
        return self._slot.fallback

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know: no key, an expired round, a fallback, a provider that cannot load."""
        expires = self.manifest.expires
        found = (
            self.fallback,
            "" if self.key_id else UNCHECKED,
            f"round {self.round} has expired: update it" if expires is not None and expires <= time.time() else "",
            self._maker.note,
            clash(),
        )
        return tuple(text for text in found if text)

    def predict(self, image: ImageLike, top: int = 5) -> Prediction:
        """Return the most probable labels of one image.

        Parameters
        ----------
        image
            A path, an encoded file's bytes, a PIL image, or an array uint8 [H, W, 3] in RGB order.
        top
            Labels to name, at most.

        Raises
        ------
        ImageError
            The image cannot be read, or is beyond the limits.
        """
        return self.predict_batch([image], top)[0]

    def predict_batch(self, images: Iterable[ImageLike], top: int = 5) -> list[Prediction]:
        """Return the most probable labels of each image, all from the same round.

        Parameters
        ----------
        images
            As `predict` takes them; decoded one at a time, encoded in chunks of bounded size.
        top
            Labels to name per image, at most.

        Raises
        ------
        ImageError
            An image cannot be read, or is beyond the limits.
        ExportError
            `top` is not an integer of at least 1, or `images` is a single image.
        """
        if not isinstance(top, int | np.integer) or top < 1:
            raise ExportError(f"top = {top!r}: ask for a number of labels, at least 1")
        serving = self.serving
        logits, probabilities = serving.score(self._features(serving, images))
        return [_prediction(serving.bundle, *row, top) for row in zip(logits, probabilities, strict=True)]

    def features(self, images: Iterable[ImageLike]) -> Array:
        """Return the encoder's features of images, float32 [B, d], not normalised.

        Raises
        ------
        ImageError
            An image cannot be read, or is beyond the limits.
        """
        return self._features(self.serving, images)

    def logits(self, images: Iterable[ImageLike]) -> Array:
        """Return the logits of images, float32 [B, C].

        Raises
        ------
        ImageError
            An image cannot be read, or is beyond the limits.
        """
        serving = self.serving
        return serving.score(self._features(serving, images))[0]

    def check(self, source: str | Path) -> Serving:
        """Return an update with its sessions, verified and self-tested as `update` would, and install nothing.

        Raises
        ------
        BundleError
            `update` would refuse it.
        """
        return self._slot.check(Path(source))

    def update(self, source: str | Path) -> Change:
        """Replace what answers by a newer round, without a pause; predictions under way finish on the old one.

        What another process installed meanwhile is loaded first, as by `reload`. Keys that this classifier was given
        are kept by a device folder that holds none.

        Parameters
        ----------
        source
            An update (manifest and head), or a full bundle.

        Raises
        ------
        BundleError
            It is refused, fails its self-test or cannot be recorded; the old round goes on answering.
        ExportError
            This is no device folder.
        """
        return self._slot.update(Path(source))

    def reload(self) -> Change | None:
        """Serve the round that the device folder names now, which another process may have changed.

        Returns
        -------
        Change or None
            None when that round answers already.

        Raises
        ------
        BundleError
            It cannot be opened, or fails its self-test; what answered goes on.
        ExportError
            This is no device folder.
        """
        return self._slot.reload()

    def rollback(self) -> Change:
        """Go back to the round before, which is still stored; the one that is left is never accepted again.

        When that round answers already, because the newer one is damaged, the damaged one is given up.

        Raises
        ------
        BundleError
            There is no round to go back to, or it is damaged; what answers now goes on answering.
        ExportError
            This is no device folder.
        """
        return self._slot.rollback()

    def close(self) -> None:
        """Let the sessions go; predictions under way still finish, new ones raise ExportError."""
        self._slot.close()

    def __enter__(self) -> EdgeClassifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _features(self, serving: Serving, images: Iterable[ImageLike]) -> Array:
        if isinstance(images, str | bytes | bytearray | memoryview) or not isinstance(images, Iterable):
            raise ExportError(f"{type(images).__name__} where several images are taken: give a list, such as [image]")
        return serving.features(read_rgb(image, self._max_pixels) for image in images)


def _prediction(bundle: Bundle, logits: Array, probabilities: Array, top: int) -> Prediction:
    manifest = bundle.manifest
    best = np.argsort(-probabilities, kind="stable")[:top]
    ranked = tuple((manifest.labels[index], float(probabilities[index])) for index in best)
    return Prediction(*ranked[0], ranked, logits, manifest.round, manifest.sequence, bundle.key_id)
