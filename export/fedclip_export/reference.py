"""The answers that an export has to reproduce: the backbone and the adapter in PyTorch, float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fedclip_edge.runtime.sessions import Array
from fedclip_plugin.backbone.clip import FrozenClip
from fedclip_plugin.classifier import Classifier
from fedclip_plugin.data import open_rgb
from fedclip_plugin.runs import SavedAdapter


class Reference:
    """PyTorch end to end, as training and ``fedclip predict`` have it, in float32 on the CPU.

    Shapes: N images, S side of the encoder's input, d width of the features, C classes.
    """

    def __init__(self, backbone: Path, saved: SavedAdapter) -> None:
        cpu = torch.device("cpu")
        self.clip = FrozenClip(backbone, cpu)
        self._classifier = Classifier(saved, device=cpu, clip=self.clip)

    def pixels(self, paths: Sequence[Path]) -> Array:
        """Return what CLIP sees of image files, ``[N, 3, S, S]``, by PIL."""
        return np.stack([self.clip.preprocess(open_rgb(path)) for path in paths])

    def encode(self, pixels: Array) -> Array:
        """Return image features ``[N, d]``."""
        return self.clip.encode_pixels(torch.from_numpy(pixels)).numpy()

    def logits(self, features: Array) -> Array:
        """Return logits ``[N, C]``."""
        return self._classifier.logits_of(torch.from_numpy(features)).numpy()
