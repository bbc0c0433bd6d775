"""Whether sessions give the golden answers that the bundle was exported with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedclip_export.errors import BundleError
from fedclip_export.runtime.serving import Array, Serving

HEAD_TOLERANCE: float = 1e-4
"""Largest |difference| of a logit from golden features: the arithmetic of one small float32 graph."""

CHAIN_TOLERANCE: dict[str, float] = {"fp32": 5e-3, "fp16": 5e-2}
"""Largest |difference| of a logit from golden images, by the encoder's precision."""

LEAST_COSINE: float = 0.98
"""Of integer encoders' features from golden images: builds of onnxruntime differ too much to compare logits."""


@dataclass(frozen=True)
class SelfTest:
    """How far the sessions are from the golden answers.

    Attributes
    ----------
    head
        Largest |difference| of a logit, from golden features.
    chain
        Largest |difference| of a logit, from golden images; None when the manifest holds none.
    cosine
        Least cosine of features from golden images to the golden features; None as `chain`.
    """

    head: float
    chain: float | None
    cosine: float | None


def self_test(serving: Serving) -> SelfTest:
    """Run the golden inputs of a bundle through its sessions.

    The head is tested on golden features. Where the manifest holds golden images, as that of a full bundle does,
    the whole chain is tested on them too.

    Raises
    ------
    BundleError
        ``self-test``: an answer is further off than the tolerances, or not finite.
    """
    manifest = serving.bundle.manifest
    golden = manifest.golden
    head = _largest(serving.score(golden.features)[0], golden.logits)
    _require(head <= HEAD_TOLERANCE, f"the head's logits are off by {head:.2g}, allowed is {HEAD_TOLERANCE:g}")
    if not golden.images:
        return SelfTest(head, None, None)
    features = serving.features(golden.images)
    chain, cosine = _largest(serving.score(features)[0], golden.logits), _least_cosine(features, golden.features)
    allowed = CHAIN_TOLERANCE.get(manifest.precision)
    if allowed is None:
        _require(cosine >= LEAST_COSINE, f"an image's features have cosine {cosine:.4f}, least is {LEAST_COSINE:g}")
    else:
        _require(chain <= allowed, f"an image's logits are off by {chain:.2g}, allowed is {allowed:g}")
    return SelfTest(head, chain, cosine)


def _largest(found: Array, golden: Array) -> float:
    if found.shape != golden.shape:
        return float("inf")
    return float(np.abs(found - golden).max())  # NaN stays NaN, and fails every comparison


def _least_cosine(found: Array, golden: Array) -> float:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(golden, axis=1)
    return float(((found * golden).sum(axis=1) / np.maximum(lengths, 1e-12)).min())


def _require(passed: bool, fault: str) -> None:
    if not passed:
        raise BundleError(
            "self-test",
            f"self-test failed: {fault}. What served before goes on; export anew or use another onnxruntime",
        )
