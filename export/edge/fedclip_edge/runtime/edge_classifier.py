"""Predict with a bundle, and replace its head while predictions run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import cast, overload

import numpy as np

from fedclip_edge.arguments import as_count, as_flag, as_path
from fedclip_edge.bundle import Bundle, Manifest, Trust, open_bundle
from fedclip_edge.bundle.keys import load_public_keys
from fedclip_edge.calibration import Calibration
from fedclip_edge.device import Device
from fedclip_edge.device.answer_statistics import AnswerCounter
from fedclip_edge.device.own_calibration import read_calibration, write_calibration
from fedclip_edge.device.recovery import called
from fedclip_edge.errors import BundleError, ExportError
from fedclip_edge.image_file import MAX_PIXELS
from fedclip_edge.images import ImageLike, is_one_image, read_rgb
from fedclip_edge.metrics import ClassMetrics, confusion
from fedclip_edge.runtime.evaluation import Labelled, labelled
from fedclip_edge.runtime.install import Change, change_between
from fedclip_edge.runtime.prediction import Prediction
from fedclip_edge.runtime.providers import clash, onnxruntime
from fedclip_edge.runtime.self_test import build_tested
from fedclip_edge.runtime.sessions import Array, Serving, SessionMaker, same_base
from fedclip_edge.runtime.site_calibration import Indices, SiteCalibration, set_calibration

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
        Public keys (PEM) any one of which must have signed. Of a device folder that holds keys only its own count, and
        these must be among them; one that holds none keeps these from its next update on.
    product
        The product that the bundle must name.
    allow_unsigned
        Whether, when no key is given or held, hashes alone are enough; for development.
    provider
        Where the encoder runs: ``auto`` (CUDA where it loads, else the CPU), ``cpu`` or ``cuda``.
    threads
        Threads of preprocessing and encoder; None takes the cores that this process may use.
    spinning
        Let idle threads burn their core: a little faster, unkind to whatever else runs there.
    max_pixels
        Largest image that is decoded, width x height.
    count
        Whether a device folder counts the answers of :meth:`predict` (``fedclip-edge stats``): labels and confidences,
        nothing of an image.

    Attributes
    ----------
    maker
        How sessions are made here: provider and threads.
    fallback
        Why an older round answers than the one that the device folder names; empty when it does not.

    Raises
    ------
    BundleError
        The folder is refused; `reason` says by which rule.
    ProviderError
        The provider cannot be used.
    MissingPackageError
        onnxruntime, or for keys cryptography, is missing.
    ExportError
        An argument is of the wrong kind.

    Examples
    --------
    ``bundle`` and ``release.pub`` are what ``fedclip export bundle --sign release`` wrote:

    >>> classifier = EdgeClassifier(bundle, keys=["release.pub"], provider="cpu")
    >>> prediction = classifier.predict(image)  # or a path, bytes, a PIL image
    >>> prediction.label in classifier.labels and 0 < prediction.probability <= 1
    True
    >>> [len(answer.top) for answer in classifier.predict([image, image], top=2)]
    [2, 2]
    >>> classifier.logits([image, image]).shape == (2, len(classifier.labels))
    True
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keys: Sequence[str | Path] = (),
        product: str = "fedclip",
        allow_unsigned: bool = False,
        provider: str = "auto",
        threads: int | None = None,
        spinning: bool = False,
        max_pixels: int = MAX_PIXELS,
        count: bool = False,
    ) -> None:
        self._max_pixels = as_count(max_pixels, "max_pixels", ExportError)
        self.maker = SessionMaker.choose(provider, threads, spinning)
        self._given = Trust(load_public_keys(keys), product, as_flag(allow_unsigned, "allow_unsigned", ExportError))
        place = as_path(folder, "folder", ExportError)
        self._runtime = str(onnxruntime().__version__)
        self._lock = threading.Lock()  # one update, rollback or reload at a time
        self._device = Device(place)
        self._serving: Serving | None = None  # read by predictions without the lock, replaced under it
        self.fallback = self._own = ""
        counting = as_flag(count, "count", ExportError)
        self._counter = AnswerCounter(self._require_device().folder) if counting else None
        if self._device.exists:
            self._open_stored()
        else:
            self._swap(self._build(open_bundle(place, self._trust(), runtime=self._runtime)))

    @property
    def serving(self) -> Serving:
        """What answers now: the verified bundle and its sessions; ExportError after `close`."""
        serving = self._serving
        if serving is None:
            raise ExportError("this EdgeClassifier is closed: open another")
        return serving

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
    def calibration(self) -> Calibration | None:
        """What confidences are worth here: the device's own calibration, else the bundle's, else None."""
        return self.serving.calibration

    @property
    def provider(self) -> str:
        """Where the encoder runs, by onnxruntime's name, such as ``CPUExecutionProvider``."""
        return self.maker.providers[0]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know: no key, an expired round, a fallback, a provider that cannot load."""
        expires = self.manifest.expires
        found = (
            self.fallback,
            self._own,
            self._counter.fault if self._counter else "",
            "" if self.key_id else UNCHECKED,
            f"round {self.round} has expired: update it" if expires is not None and expires <= time.time() else "",
            self.maker.note,
            clash(),
        )
        return tuple(text for text in found if text)

    @overload
    def predict(self, images: ImageLike, top: int = ...) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Iterable[ImageLike], top: int = ...) -> list[Prediction]: ...

    def predict(self, images: ImageLike | Iterable[ImageLike], top: int = 3) -> Prediction | list[Prediction]:
        """Return the `top` most probable labels of one image, or of each of many, all from the same round.

        An image is a path, an encoded file's bytes, a PIL image, or an array uint8 [H, W, 3] in RGB order. Many are
        decoded one at a time, and encoded in chunks of bounded size.

        Raises
        ------
        ImageError
            An image cannot be read, or is beyond the limits.
        ExportError
            `top` is not an integer of at least 1.
        """
        most, serving = as_count(top, "top", ExportError), self.serving
        answers = serving.answers(self._features(serving, images))
        found = [Prediction.of(serving, *row, most) for row in zip(*answers, strict=True)]
        if self._counter is not None:
            for own in found:
                self._counter.add(own.guess, own.known, own.probability)
        return found[0] if is_one_image(images) else found

    def encode(self, images: ImageLike | Iterable[ImageLike]) -> Array:
        """Return the encoder's features, float32 [N, d], before the head and not normalised; errors as of `predict`."""
        return self._features(self.serving, images)

    def logits(self, images: ImageLike | Iterable[ImageLike]) -> Array:
        """Return the logits of images, float32 [N, C]; errors as of `predict`."""
        serving = self.serving
        return serving.score(self._features(serving, images))[0]

    def evaluate(self, images: str | Path | Iterable[Labelled]) -> ClassMetrics:
        """Score labelled images: accuracy, recall of each label in the order of `labels`, balanced accuracy, macro F1.

        They are a folder ``<label>/<image>``, or pairs of an image and its label, all answered by the same round.
        Errors as of `predict`; ExportError when there is no image, or a label is not the bundle's.
        """
        logits, true = self._labelled_logits(self.serving, images)
        return ClassMetrics.of(confusion(true, logits.argmax(-1).astype(np.int64), len(self.labels)))

    def calibrate(
        self, images: str | Path | Iterable[Labelled], false_reject_rate: float | None = None
    ) -> SiteCalibration:
        """Set temperature and threshold for this device by labelled images of its own, and answer by them.

        They are kept in the device folder, beside the rounds, and count for the round that answers now alone; nothing
        that was signed changes. ``None`` as the rate takes the bundle's own, else 5 %. Errors as of :meth:`evaluate`;
        ExportError when there are too few images, or this is no device folder.
        """
        device, serving = self._require_device(), self.serving
        logits, true = self._labelled_logits(serving, images)
        with self._lock:
            made = set_calibration(device, serving, logits, true, false_reject_rate)
            self._swap(self.serving, self.fallback)
            return made

    def uncalibrate(self) -> None:
        """Answer by the bundle's own calibration again, and forget the device's own."""
        device = self._require_device()
        with self._lock:
            write_calibration(device.folder, self.sequence, None)
            self._swap(self.serving, self.fallback)

    def _labelled_logits(self, serving: Serving, images: str | Path | Iterable[Labelled]) -> tuple[Array, Indices]:
        """Return logits [N, C] and labels [N] of labelled images."""
        true = list[int]()

        def taken() -> Iterator[ImageLike]:
            for image, label in labelled(images, serving.bundle.manifest.labels):
                true.append(label)
                yield image

        return serving.score(self._features(serving, taken()))[0], np.asarray(true, dtype=np.int64)

    def check(self, source: str | Path) -> Serving:
        """Return an update with its sessions, verified and self-tested as `update` would, and install nothing."""
        with self._lock:
            return self._prepare(as_path(source, "source", ExportError))

    def update(self, source: str | Path) -> Change:
        """Replace what answers by an update or a full bundle; predictions under way finish on the old round.

        What another process installed meanwhile is loaded first, as by `reload`. Keys that this classifier was given
        are kept by a device folder that holds none.

        Raises
        ------
        BundleError
            It is refused, fails its self-test or cannot be recorded; the old round goes on answering.
        ExportError
            This is no device folder.
        """
        device, place = self._require_device(), as_path(source, "source", ExportError)
        with self._lock:
            old = self.serving
            with suppress(BundleError):  # what cannot be opened any more is what this update may mend
                self._follow()
            new = self._prepare(place)
            # Recording can fail (a full disk); the swap, one assignment, cannot. In this order no answer ever comes
            # from a sequence that a power cut would forget, and nothing is recorded that has not passed its test.
            device.commit(new.bundle, self._given.keys)
            replaced = new.encoder is not self.serving.encoder
            self._swap(new)
            if replaced:
                self._leave_delivery()
            return change_between(old, self.serving)

    def reload(self) -> Change | None:
        """Serve the round that the device folder names now, which another process may have changed.

        Returns None when that round answers already. Raises BundleError when it cannot be opened, or fails its
        self-test; what answered goes on.
        """
        self._require_device()
        with self._lock:
            old = self.serving
            self._follow()
            change = change_between(old, self.serving)
        return None if change.sequence == change.old_sequence else change

    def rollback(self) -> Change:
        """Go back to the round before, which is still stored; the one that is left is never accepted again.

        When that round answers already, because the newer one is damaged, the damaged one is given up. Raises
        BundleError when there is no round to go back to, or it is damaged; what answers now goes on answering.
        """
        device = self._require_device()
        with self._lock:
            seen = device.state
            self._follow()
            old, given_up = self.serving, called(device.folder, seen.current) if self.fallback else ""
            new = self._build(device.previous(self._trust(), self._runtime))  # tested first, as an update is
            device.rollback(seen)
            self._swap(new)
        return replace(change_between(old, new), given_up=given_up)

    def close(self) -> None:
        """Let the sessions go; predictions under way still finish, new ones raise ExportError."""
        with self._lock:
            self._serving = None
        if self._counter is not None:
            self._counter.close()

    def __enter__(self) -> EdgeClassifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _features(self, serving: Serving, images: ImageLike | Iterable[ImageLike]) -> Array:
        if not is_one_image(images) and not isinstance(images, Iterable):
            raise ExportError(f"{type(images).__name__} where images are taken: give one image, or a list of them")
        every = cast("Iterable[ImageLike]", [images] if is_one_image(images) else images)
        sample_range = serving.bundle.manifest.sample_range
        return serving.features(read_rgb(image, self._max_pixels, sample_range) for image in every)

    def _follow(self) -> None:
        """Serve what the disk names, when that is another round than the one that answers, and calibrate it so."""
        if self._device.state.current != str(self.serving.bundle.manifest.sequence):
            self._open_stored()
        else:
            self._swap(self.serving, self.fallback)

    def _open_stored(self) -> None:
        """Serve the round that the disk names, or the one before when that cannot serve here."""
        new = self._device.serve(self._trust(), self._runtime, self._build)
        self._swap(new, self._device.fallback or "")

    def _leave_delivery(self) -> None:
        """Serve the device's own copy of the encoder: the delivery's file may be deleted."""
        # When the copy cannot be opened (no memory for it, a failing disk), the delivery goes on answering: it has
        # passed its tests and is recorded, and the round before would contradict the disk.
        with suppress(ExportError):
            own = self._device.serve(self._trust(), self._runtime, lambda bundle: build_tested(bundle, self.maker))
            if self._device.fallback is None:
                self._swap(own)

    def _swap(self, new: Serving, fallback: str = "") -> None:
        """Let other sessions answer, with the device's own calibration where it has one for this round."""
        own, note = None, ""
        if self._device.exists:
            own, note = read_calibration(self._device.folder, new.bundle.manifest.sequence)
        self._serving, self.fallback, self._own = replace(new, own=own), fallback, note

    def _prepare(self, source: Path) -> Serving:
        """Return tested sessions of what `source` offers, which must fit to what is recorded on disk at this moment."""
        running = self.serving.bundle
        installed = self._device.installed() or running.installed()
        bundle = open_bundle(source, self._trust(), installed=installed, runtime=self._runtime)
        return self._build(bundle if same_base(bundle, running) else self._device.complete(bundle))

    def _build(self, bundle: Bundle) -> Serving:
        """Return tested sessions, on the encoder that runs already where it is the same."""
        return build_tested(bundle, self.maker, self._serving)

    def _trust(self) -> Trust:
        """Return what has to be proved by the keys on disk now."""
        return self._device.trust(self._given.product, self._given.keys, self._given.allow_unsigned)

    def _require_device(self) -> Device:
        if not self._device.exists:
            raise ExportError("a bundle as delivered stays as it is: install it to a device folder, and open that")
        return self._device
