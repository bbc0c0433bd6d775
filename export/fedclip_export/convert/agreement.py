"""How far two encoders agree, measured so that it cannot flatter."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def centred_cosine(reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Return the mean cosine of two encoders' features of the same images, after the mean feature is taken away.

    The features of a CLIP lie in a narrow cone: plain cosine is near 1 for any two images, so it says little of two
    encoders. What is left without the mean tells images apart.

    Parameters
    ----------
    reference, other
        Features, ``[N, d]`` each, of N >= 2 images; the mean is that of `reference`.

    Returns
    -------
    float
        1 for equal features; about 0 for unrelated ones.

    Raises
    ------
    ValueError
        When the shapes differ, or there are fewer than two images.
    """
    if reference.shape != other.shape or reference.ndim != 2 or len(reference) < 2:
        raise ValueError(
            f"features of shapes {reference.shape} and {other.shape}; both must be [N, d] with the same N of at least 2"
        )
    mean = reference.mean(axis=0, dtype=np.float64)
    first, second = reference - mean, other - mean
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)).mean())
