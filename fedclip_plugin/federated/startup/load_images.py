"""What a rank's images become: features for zero-shot CLIP, and what the method takes in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from fedclip_plugin.data import ImageSet, split_60_20_20
from fedclip_plugin.features import FeatureSet, FeatureSource, InputSet, SiloFeatures
from fedclip_plugin.features.encoding import Progress
from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe import FedClipArgs


@dataclass(frozen=True)
class Inputs:
    """One rank's images."""

    features: FeatureSet  # of the backbone, which zero-shot CLIP is scored on
    taken: InputSet  # what the method takes in: the same, perhaps with augmented views, or pixels
    faults: int  # how many images cannot be read

    @classmethod
    def load(
        cls, settings: FedClipArgs, source: FeatureSource, images: ImageSet, views: int, on_progress: Progress
    ) -> Inputs:
        """Encode and decode what the caches lack, and ``views`` augmented views of each image beside it."""
        skip = settings.on_bad_image == "skip"
        encoded = source.images(images, skip, on_progress)
        taken: InputSet = encoded.data
        if METHODS[settings.method].on_pixels:
            taken = source.pixels(images, skip).data
        elif views:
            seen = [source.images(images, skip, on_progress, view).data.features for view in range(1, views + 1)]
            taken = replace(encoded.data, views=torch.stack(seen, dim=1))
        return cls(encoded.data, taken, len(encoded.faults))


def split(data: InputSet, seed: int) -> SiloFeatures:
    """Return a silo's splits; only what is trained on keeps augmented views."""
    parts, plain = split_60_20_20(len(data), seed), data.without_views()
    return SiloFeatures(data.subset(parts.train), plain.subset(parts.validation), plain.subset(parts.test))
