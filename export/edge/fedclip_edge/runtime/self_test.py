"""Whether sessions give the golden answers that the bundle was exported with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedclip_edge.bundle import Bundle
from fedclip_edge.errors import BundleError
from fedclip_edge.runtime.sessions import Array, Serving, SessionMaker, build_serving

HEAD_TOLERANCE: float = 1e-4
"""Largest |difference| of a logit from golden features: the arithmetic of one small float32 graph."""

CHAIN_TOLERANCE: dict[str, float] = {"fp32": 5e-3, "fp16": 5e-2}
"""Largest |difference| of a logit from golden images, by the encoder's precision."""

LEAST_COSINE: float = 0.95
"""Mean centred cosine of an integer encoder's features from golden images.

Builds of onnxruntime differ by about the quantisation error itself, up to 0.26 logits, so logits cannot be compared. An
export is refused below 0.98; a build that errs as much, in another direction, comes to 0.96. Centred means less the
mean of the golden features: CLIP's features are nearly parallel, and the plain cosine of wrong ones is 0.98 as well.
"""

CLEAR_MARGIN: float = 1.0
"""Between an image's two largest golden logits: above it, the first label of an integer encoder must be the same.

Twice 0.26, the most that the two logits may move towards each other between builds, and as much again.
"""


@dataclass(frozen=True)
class SelfTest:
    """How far the sessions are from the golden answers.

    `head` and `chain` are the largest |difference| of a logit, from golden features and from golden images; `cosine` is
    the mean cosine of features from golden images to the golden features, both less the mean of the latter (of a single
    image: as they are). `chain` and `cosine` are None when the manifest holds no images.
    """

    head: float
    chain: float | None
    cosine: float | None


def build_tested(bundle: Bundle, maker: SessionMaker, running: Serving | None = None) -> Serving:
    """Return a bundle's sessions, as :func:`~fedclip_edge.runtime.sessions.build_serving`, after their self-test."""
    serving = build_serving(bundle, maker, running)
    self_test(serving)
    return serving


def self_test(serving: Serving) -> SelfTest:
    """Run the golden inputs of a bundle through its sessions; refuses with ``self-test``.

    The head is tested on golden features. Where the manifest holds golden images, as that of a full bundle does, the
    whole chain is tested on them too: in fp32 and fp16 by its logits, with an integer encoder by the mean centred
    cosine of its features and by the first labels that are clear.
    """
    try:
        return _run(serving)
    except (BundleError, MemoryError):
        raise
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise _failed(f"onnxruntime cannot run it ({error})") from error


def _run(serving: Serving) -> SelfTest:
    manifest = serving.bundle.manifest
    golden = manifest.golden
    head = _largest(serving.score(golden.features)[0], golden.logits)
    _require(head <= HEAD_TOLERANCE, f"the head's logits are off by {head:.2g}, allowed is {HEAD_TOLERANCE:g}")
    if not golden.images:
        return SelfTest(head, None, None)
    features = serving.features(golden.images)
    logits = serving.score(features)[0]
    chain, cosine = _largest(logits, golden.logits), _centred_cosine(features, golden.features)
    allowed = CHAIN_TOLERANCE.get(manifest.precision)
    if allowed is None:
        _require(
            cosine >= LEAST_COSINE,
            f"the images' features have mean centred cosine {cosine:.4f}, least is {LEAST_COSINE:g}",
        )
        _require(_same_labels(logits, golden.logits), "an image has another first label, though that was clear")
    else:
        _require(chain <= allowed, f"an image's logits are off by {chain:.2g}, allowed is {allowed:g}")
    return SelfTest(head, chain, cosine)


def _largest(found: Array, golden: Array) -> float:
    if found.shape != golden.shape:
        return float("inf")
    return float(np.abs(found - golden).max())  # NaN stays NaN, and fails every comparison


def _centred_cosine(found: Array, golden: Array) -> float:
    centre = golden.mean(axis=0) if len(golden) > 1 else np.zeros_like(golden[0])
    found, golden = found - centre, golden - centre
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(golden, axis=1)
    return float(((found * golden).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())


def _same_labels(found: Array, golden: Array) -> bool:
    ordered = np.sort(golden, axis=1)
    clear = ordered[:, -1] - ordered[:, -2:][:, 0] > CLEAR_MARGIN  # of one label it is no margin, and never clear
    return bool((found.argmax(axis=1) == golden.argmax(axis=1))[clear].all())


def _require(passed: bool, fault: str) -> None:
    if not passed:
        raise _failed(fault)


def _failed(fault: str) -> BundleError:
    return BundleError("self-test", f"self-test failed: {fault}; export anew or use another onnxruntime")
