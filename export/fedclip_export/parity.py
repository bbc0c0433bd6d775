"""Every export is compared with PyTorch before it is called done: the measurement, the gates, the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch

from fedclip_edge.calibration import confidences
from fedclip_edge.images import read_rgb
from fedclip_edge.runtime.sessions import CHUNK, Array, ImageEncoder, SessionMaker, score
from fedclip_edge.terminal import align
from fedclip_export.graphs.finalize import to_bytes
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.data import open_rgb
from fedclip_plugin.machine import torch_threads
from fedclip_plugin.runs import SavedAdapter


def centred_cosine(reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Return the mean cosine of two encoders' features of the same images, after the mean feature is taken away.

    The features of a CLIP lie in a narrow cone: plain cosine is near 1 for any two images, so it says little of two
    encoders. What is left without the mean tells images apart: 1 for equal features; about 0 for unrelated ones. Both
    are ``[N, d]``, of N >= 2 images; the mean is that of `reference`.
    """
    if reference.shape != other.shape or reference.ndim != 2 or len(reference) < 2:
        raise ValueError(
            f"features of shapes {reference.shape} and {other.shape}; both must be [N, d] with the same N of at least 2"
        )
    mean = reference.mean(axis=0, dtype=np.float64)
    first, second = reference - mean, other - mean
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)).mean())


PIXELS_TOLERANCE, FILES_TOLERANCE = 1e-4, 5e-3
"""fp32: largest difference of a logit, from the same pixel values and from the same image file."""

LOWEST_COSINE, LOWEST_TOP1 = 0.98, 0.99
"""All other precisions: mean centred cosine of the features, share of images with the same first label."""

_REPEATS = {1: 10, 8: 4}
_ENOUGH_SECONDS = 10.0
"""Of the runs of one batch size: those of a large backbone take long, and are not repeated for minutes."""


@dataclass(frozen=True)
class Parity:
    """How one precision of an export compares with PyTorch in float32.

    `precision` ``torch`` is the reference's own row of latencies. `pixels` and `files` are the largest difference of a
    logit, from the same pixel values and from the same image file; `cosine` the mean centred cosine of the features,
    `top1` the share of images with the same first label, `answers` that with the same answer, ``unknown`` included, all
    from files. `megabytes` is the size of the encoder's file. `latency_ms` counts from pixel values to logits by batch
    size on one thread, the best of a few interleaved runs.
    """

    precision: str
    images: int
    pixels: float
    files: float
    cosine: float
    top1: float
    answers: float
    megabytes: float
    load_ms: float
    latency_ms: Mapping[int, float]

    def fault(self) -> str | None:
        """Return which tolerance is broken, None when none is."""
        if self.precision == "fp32":
            if not self.pixels <= PIXELS_TOLERANCE:
                return f"logits from the same pixels differ by {self.pixels:.2g}, more than {PIXELS_TOLERANCE:g}"
            if not self.files <= FILES_TOLERANCE:
                return f"logits from the same files differ by {self.files:.2g}, more than {FILES_TOLERANCE:g}"
            return None
        if not self.cosine >= LOWEST_COSINE:
            return f"centred cosine of the features is {self.cosine:.4f}, less than {LOWEST_COSINE}"
        if not self.top1 >= LOWEST_TOP1:
            return f"{self.top1:.1%} of the first labels agree, fewer than {LOWEST_TOP1:.0%}"
        return None

    def record(self, torch_ms: Mapping[int, float]) -> dict[str, str]:
        """Return the figures as strings, as the manifest stores them; latencies as ratios to PyTorch."""
        return {
            "images": str(self.images),
            "max_dlogit_pixels": f"{self.pixels:.3g}",
            "max_dlogit_files": f"{self.files:.3g}",
            "centred_cosine": f"{self.cosine:.6f}",
            "top1_agreement": f"{self.top1:.4f}",
            "answer_agreement": f"{self.answers:.4f}",
            "encoder_megabytes": f"{self.megabytes:.3f}",
            "load_ms": f"{self.load_ms:.0f}",
        } | {f"speed_vs_torch_batch_{size}": f"{torch_ms[size] / ms:.2f}" for size, ms in self.latency_ms.items()}


@dataclass(frozen=True, eq=False)
class DeviceChain(ImageEncoder):
    """The three graphs of a bundle as a device runs them, on one thread as PyTorch when latencies are compared.

    `megabytes` is the size of the encoder, `load_ms` what onnxruntime took to load it.
    """

    head: onnxruntime.InferenceSession
    megabytes: float
    load_ms: float

    @classmethod
    def load(cls, preprocess: onnx.ModelProto, encoder: onnx.ModelProto, head: onnx.ModelProto) -> DeviceChain:
        """Load three graphs; errors as of `to_bytes` and of `SessionMaker`."""
        maker, encoder_bytes = SessionMaker.choose("cpu", 1, spinning=False), to_bytes(encoder)
        began = time.perf_counter()
        session = maker.encoder(encoder_bytes)
        load_ms = 1e3 * (time.perf_counter() - began)
        first, last = maker.preprocess(to_bytes(preprocess)), maker.head(to_bytes(head))
        return cls(first, session, last, len(encoder_bytes) / 1e6, load_ms)

    def logits(self, features: Array) -> Array:
        """Return logits ``[N, C]``."""
        return score(self.head, features)[0]


class Reference:
    """PyTorch end to end, as training and ``fedclip predict`` have it, in float32 on the CPU.

    Shapes: N images, S side of the encoder's input, d width of the features, C classes.
    """

    def __init__(self, backbone: Path, saved: SavedAdapter) -> None:
        cpu = torch.device("cpu")
        self.clip = FrozenClip(backbone, cpu)
        self.sample_range = saved.sample_range
        self._classifier = Classifier(saved, device=cpu, clip=self.clip)
        self.threshold = self._classifier.threshold

    def pixels(self, paths: Sequence[Path]) -> Array:
        """Return what CLIP sees of image files, ``[N, 3, S, S]``, by PIL."""
        return np.stack([self.clip.preprocess(open_rgb(path, sample_range=self.sample_range)) for path in paths])

    def encode(self, pixels: Array) -> Array:
        """Return image features ``[N, d]``."""
        return self.clip.encode_pixels(torch.from_numpy(pixels)).numpy()

    def logits(self, features: Array) -> Array:
        """Return logits ``[N, C]``."""
        return self._classifier.logits_of(torch.from_numpy(features)).numpy()


class ParityCheck:
    """Compares device chains with the reference on one set of image files."""

    def __init__(self, reference: Reference, paths: Sequence[Path]) -> None:
        self._reference, self._paths = reference, paths
        self._pixels = reference.pixels(paths)
        self._features = _chunked(reference.encode, self._pixels)
        self._logits = reference.logits(self._features)

    def measure(self, chains: Mapping[str, DeviceChain]) -> list[Parity]:
        """Return one row per chain, by name of its precision, after a row of PyTorch's own latencies."""
        latencies = _latencies({"torch": self._reference, **chains}, self._pixels)
        own = Parity("torch", len(self._paths), 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, latencies["torch"])
        return [own, *(self._compare(name, chain, latencies[name]) for name, chain in chains.items())]

    def _compare(self, precision: str, chain: DeviceChain, latency: Mapping[int, float]) -> Parity:
        same_pixels = chain.logits(_chunked(chain.encode, self._pixels))
        features = chain.features(read_rgb(path, sample_range=self._reference.sample_range) for path in self._paths)
        logits = chain.logits(features)
        return Parity(
            precision,
            len(self._paths),
            pixels=_largest(same_pixels - self._logits),
            files=_largest(logits - self._logits),
            cosine=centred_cosine(self._features, features),
            top1=float((logits.argmax(-1) == self._logits.argmax(-1)).mean()),
            answers=float((self._answers(logits) == self._answers(self._logits)).mean()),
            megabytes=chain.megabytes,
            load_ms=chain.load_ms,
            latency_ms=latency,
        )

    def _answers(self, logits: Array) -> npt.NDArray[np.int64]:
        """Return the index of each image's label, ``[N]``; -1 for ``unknown``."""
        sure = confidences(logits, 1.0) >= self._reference.threshold
        return np.where(sure, logits.argmax(-1), -1)


def parity_table(rows: Sequence[Parity]) -> str:
    """Return parity rows as text.

    Columns: size; time to load; largest difference of a logit from the same pixel values, and from the same image
    file; mean centred cosine of the features; shares of equal first labels and of equal answers; latency from pixel
    values to logits on one thread, and speed relative to PyTorch and to onnxruntime in fp32 in the same run.
    """
    head = ["encoder", "MB", "load ms", "|dlogit| pixels", "files", "cosine", "top-1", "answers"]
    head += [title for size in _REPEATS for title in (f"batch {size} ms", "x torch", "x fp32")]
    exact = next(row for row in rows if row.precision == "fp32")
    return align([head, *(_cells(row, rows[0], exact) for row in rows)])


def _cells(row: Parity, eager: Parity, exact: Parity) -> list[str]:
    if row is eager:
        compared = ["torch eager", "", "", "", "", "", "", ""]
    else:
        compared = [row.precision, f"{row.megabytes:.2f}", f"{row.load_ms:.0f}", f"{row.pixels:.1e}"]
        compared += [f"{row.files:.1e}", f"{row.cosine:.4f}", f"{row.top1:.3f}", f"{row.answers:.3f}"]
    for size, ms in row.latency_ms.items():
        compared += [f"{ms:.2f}", f"{eager.latency_ms[size] / ms:.2f}", f"{exact.latency_ms[size] / ms:.2f}"]
    return compared


def _latencies(chains: Mapping[str, Reference | DeviceChain], pixels: Array) -> dict[str, dict[int, float]]:
    """Return milliseconds from pixel values to logits by chain and batch size, on one thread; runs are interleaved.

    On several threads, those of PyTorch spin while they wait, and a busy machine makes it look ten times slower.
    """
    best: dict[str, dict[int, float]] = {name: {} for name in chains}
    with torch_threads(1):
        for size, repeats in _REPEATS.items():
            batch, started = np.resize(pixels, (size, *pixels.shape[1:])), time.perf_counter()
            for _ in range(repeats + 1):  # the first run of each warms up; it is never the fastest
                for name, chain in chains.items():
                    began = time.perf_counter()
                    chain.logits(chain.encode(batch))
                    best[name][size] = min(best[name].get(size, np.inf), 1e3 * (time.perf_counter() - began))
                if time.perf_counter() - started > _ENOUGH_SECONDS:
                    break
    return best


def _chunked(encode: Callable[[Array], Array], pixels: Array) -> Array:
    """Encode in chunks, so that memory does not grow with the number of images."""
    return np.concatenate([encode(pixels[start : start + CHUNK]) for start in range(0, len(pixels), CHUNK)])


def _largest(difference: Array) -> float:
    return float(np.abs(difference).max())
