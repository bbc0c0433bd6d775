"""The three onnxruntime sessions of a bundle, set up for a device that has other things to do as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedclip_edge.arguments import as_count, as_flag
from fedclip_edge.bundle import Bundle, Manifest
from fedclip_edge.calibration import Calibration
from fedclip_edge.errors import BundleError, ExportError, ProviderError
from fedclip_edge.images import Pixels
from fedclip_edge.machine import cores
from fedclip_edge.runtime.providers import CPU, CUDA, choose, onnxruntime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = NDArray[np.float32]

CHUNK: int = 32
"""Images that are encoded at once: more would cost memory and no longer gain speed."""

_ERRORS_ONLY = 3
_CUDA_OPTIONS = {"use_tf32": "0"}  # 10 bits of mantissa would move fp32 logits beyond the self-test's tolerance


MAX_THREADS: int = 256
"""More threads would only make onnxruntime ask the system for what no machine of this kind has."""


@dataclass(frozen=True)
class SessionMaker:
    """Makes sessions that share one choice of provider and threads.

    `providers` are onnxruntime's names for the encoder, most wanted first; `note` is what the user should know about
    that choice, `threads` counts those within an operator. With `spinning`, idle threads burn their core while they
    wait: 3 to 5 % faster, 40 % more CPU time.
    """

    providers: tuple[str, ...]
    note: str
    threads: int
    spinning: bool

    @classmethod
    def choose(cls, provider: str, threads: int | None, spinning: bool) -> SessionMaker:
        """Return a maker for what the user asked for: ``auto``, ``cpu`` or ``cuda``, and 1 to `MAX_THREADS` threads.

        Without a number of threads, it takes the cores that this process may use. Raises ProviderError when the
        provider cannot be used, ExportError for another number of threads.
        """
        if threads is not None and as_count(threads, "threads", ExportError) > MAX_THREADS:
            raise ExportError(f"threads = {threads}: give 1 to {MAX_THREADS}, or none to use all cores of this process")
        providers, note = choose(provider)
        return cls(
            tuple(providers), note, threads or min(cores(), MAX_THREADS), as_flag(spinning, "spinning", ExportError)
        )

    def encoder(self, model: Path | bytes) -> InferenceSession:
        """Return the encoder's session; one opened by path maps external data and does not copy it.

        Raises BundleError (``graph``) when onnxruntime cannot load it, ProviderError when it cannot run it on the
        provider that was chosen, or fell back from it.
        """
        session = self._make(model if isinstance(model, bytes) else str(model), "encoder", self.providers, self.threads)
        got = session.get_providers()[0]
        if got != self.providers[0]:  # onnxruntime falls back without an error
            raise ProviderError(
                f"onnxruntime made the encoder on {got}, not on {self.providers[0]}: use --provider cpu"
            )
        return session

    def preprocess(self, raw: bytes) -> InferenceSession:
        """Return the preprocessing session, on the CPU, where its pixels are the same on every machine."""
        return self._make(raw, "preprocess", (CPU,), self.threads)

    def head(self, raw: bytes) -> InferenceSession:
        """Return a head's session from the very bytes that were verified: one thread is fastest for 2 MB."""
        return self._make(raw, "head", (CPU,), 1)

    def _make(self, model: str | bytes, role: str, providers: tuple[str, ...], threads: int) -> InferenceSession:
        module = onnxruntime()
        options = module.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spinning)))
        wanted = [(name, _CUDA_OPTIONS) if name == CUDA else name for name in providers]
        try:
            return module.InferenceSession(model, options, providers=wanted, enable_fallback=0)
        except Exception as error:  # onnxruntime's errors share no base but Exception
            if providers[0] != CPU:
                raise ProviderError(
                    f"onnxruntime {module.__version__} cannot run the {role} on {providers[0]}: {error}; "
                    "use --provider cpu"
                ) from error
            raise BundleError(
                "graph",
                f"onnxruntime {module.__version__} cannot load the {role} ({error}); use another, or export anew",
            ) from error


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """From images to their features, by two onnxruntime sessions; each may run in several threads at once."""

    preprocess: InferenceSession
    encoder: InferenceSession

    def features(self, images: Iterable[Pixels]) -> Array:
        """Return image features, float32 [B, d], not normalised; memory is bounded by `CHUNK`, not by B."""
        parts = [self.encode(np.concatenate(chunk)) for chunk in _chunks(map(self.pixel_values, images))]
        return np.concatenate(parts) if parts else np.empty((0, self.feature_dim), np.float32)

    @property
    def feature_dim(self) -> int:
        """Width d of the features."""
        return int(self.encoder.get_outputs()[0].shape[1])

    def pixel_values(self, image: Pixels) -> Array:
        """Return one image resized, cropped and normalised, float32 [1, 3, S, S]."""
        result: Array = self.preprocess.run(["pixel_values"], {"image": image})[0]
        return result

    def encode(self, pixel_values: Array) -> Array:
        """Return the features, float32 [B, d], of pixel values [B, 3, S, S]."""
        result: Array = self.encoder.run(["image_features"], {"pixel_values": pixel_values})[0]
        return result


@dataclass(frozen=True, eq=False)
class Serving(ImageEncoder):
    """A verified bundle and its sessions; never changed, only replaced as a whole.

    `own` is the device's own calibration, by which the head's logits are divided once more; None: the bundle's counts.
    """

    head: InferenceSession
    bundle: Bundle
    own: Calibration | None = None

    @property
    def calibration(self) -> Calibration | None:
        """Where the threshold comes from: the device, else the bundle, else nowhere."""
        return self.own or self.bundle.manifest.calibration

    def answers(self, features: Array) -> tuple[Array, Array]:
        """Return the head's logits, and the probabilities that count here, both float32 [B, C]."""
        logits, probabilities = self.score(features)
        if self.own is None:
            return logits, probabilities
        powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / self.own.temperature)
        shares: Array = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return logits, shares

    def score(self, features: Array) -> tuple[Array, Array]:
        """Return logits and probabilities, both float32 [B, C], of features [B, d]."""
        return score(self.head, features)


def score(head: InferenceSession, features: Array) -> tuple[Array, Array]:
    """Return the logits and probabilities, both float32 [B, C], that a head gives for features [B, d]."""
    logits, probabilities = head.run(["logits", "probabilities"], {"image_features": features})
    return logits, probabilities


def build_serving(bundle: Bundle, maker: SessionMaker, running: Serving | None = None) -> Serving:
    """Return a bundle's sessions, their interface checked, on the encoder that runs already where it is the same.

    Refuses with ``graph`` what onnxruntime cannot load, or inputs and outputs other than promised; ``labels``: the head
    gives another number of logits; ``incomplete``: an update whose encoder does not run; ``hash``: the encoder is
    another file than was checked. Raises ProviderError when onnxruntime fell back from the chosen provider.
    """
    manifest, head = bundle.manifest, maker.head(bundle.head)
    _require_interface("head", head, manifest)
    if running is not None and same_base(bundle, running.bundle):
        return Serving(running.preprocess, running.encoder, head, bundle)
    if bundle.encoder is None or bundle.preprocess is None:
        raise BundleError("incomplete", f"{bundle.folder} is an update: give the full bundle that it goes with")
    encoder, preprocess = maker.encoder(bundle.encoder), maker.preprocess(bundle.preprocess)
    bundle.require_unchanged()  # onnxruntime read by path what was hashed before: was it the same file?
    _require_interface("encoder", encoder, manifest)
    _require_interface("preprocess", preprocess, manifest)
    return Serving(preprocess, encoder, head, bundle)


def same_base(one: Bundle, other: Bundle) -> bool:
    """Tell whether two bundles go with the same preprocessing and encoder, by their hashes."""
    first, second = one.installed(), other.installed()
    return (first.encoder, first.preprocess) == (second.encoder, second.preprocess)


def _chunks(values: Iterator[Array]) -> Iterator[list[Array]]:
    while chunk := list(islice(values, CHUNK)):
        yield chunk


def _require_interface(role: str, session: InferenceSession, manifest: Manifest) -> None:
    """Refuse a graph whose inputs and outputs, as onnxruntime tells them, are not those that a bundle promises."""
    size, count = manifest.image_size, len(manifest.labels)
    features = f"image_features tensor(float) [any, {manifest.feature_dim}]"
    promised = {
        "preprocess": f"image tensor(uint8) [any, any, 3] -> pixel_values tensor(float) [1, 3, {size}, {size}]",
        "encoder": f"pixel_values tensor(float) [any, 3, {size}, {size}] -> {features}",
        "head": f"{features} -> logits tensor(float) [any, {count}]; probabilities tensor(float) [any, {count}]",
    }[role]
    found = f"{_told(session.get_inputs())} -> {_told(session.get_outputs())}"
    if found == promised:
        return
    for port in session.get_outputs():
        if port.name == "logits" and port.shape and isinstance(port.shape[-1], int) and port.shape[-1] != count:
            raise BundleError(
                "labels", f"the {role} gives {port.shape[-1]} logits, but there are {count} labels; export it again"
            )
    raise BundleError("graph", f"the {role} is {found[:300]}, but has to be {promised}; export it again")


def _told(ports: Iterable[Any]) -> str:
    """Return name, type and shape of each; ``any`` for a size that is free."""
    shapes = ((port, ", ".join(str(n) if isinstance(n, int) else "any" for n in port.shape)) for port in ports)
    return "; ".join(f"{port.name} {port.type} [{shape}]" for port, shape in shapes)
