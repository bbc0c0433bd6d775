"""What the classes look like to CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fedclip_plugin.features.feature_set import FeatureSet


@dataclass(frozen=True)
class TextFeatures:
    """What the classes look like to CLIP.

    Attributes
    ----------
    features
        Unit-length rows, ``[C, d]`` float32.
    logit_scale
        CLIP's factor on cosine similarities.
    """

    features: Tensor
    logit_scale: float

    def to(self, like: Tensor) -> TextFeatures:
        """Return them on the device and in the type of ``like``."""
        return TextFeatures(self.features.to(like), self.logit_scale)

    def beside(self, data: FeatureSet) -> TextFeatures:
        """Return them where ``data`` is worked on; pixels may lie elsewhere until a batch is taken."""
        like = data.features if data.features.is_floating_point() else self.features
        return TextFeatures(self.features.to(data.labels.device, like.dtype), self.logit_scale)


def prompts_of(classes: Sequence[str], template: str) -> tuple[str, ...]:
    """Return one prompt a class; ``template`` has one ``{}``, underscores of folder names become spaces."""
    return tuple(template.format(name.replace("_", " ")) for name in classes)
