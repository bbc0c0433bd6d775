"""What comes of an image set: what a method takes in, and the images that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

from fedclip_plugin.data import UnreadableImageError
from fedclip_plugin.features.feature_set import FeatureSet


@dataclass(frozen=True)
class EncodedImages:
    """What a method takes in of an image set.

    Attributes
    ----------
    data
        Features or pixels, and labels, of the readable images.
    kept
        Indices of the readable images in the image set, ``[N]``.
    faults
        One error for each unreadable image.
    encoded
        How many images were encoded or cropped just now; the others came from the cache.
    """

    data: FeatureSet
    kept: list[int]
    faults: list[UnreadableImageError]
    encoded: int
