"""From an image to what CLIP's image tower sees, by the backbone's own processor; needs no weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from fedclip_plugin.backbone.checkpoint import reading, require_side
from fedclip_plugin.backbone.clip_config import read_clip_config
from fedclip_plugin.errors import BackboneError


class Normalization(nn.Module):
    """Rescale (a factor, ``1 / 255``) and normalise by channel, bit for bit as transformers' numpy processor does."""

    mean: Tensor
    std: Tensor

    def __init__(self, rescale: float, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.rescale = rescale
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)

    def forward(self, levels: Tensor) -> Tensor:
        """Return pixels of zero mean, ``[B, 3, S, S]``, of uint8 levels of that shape on any device."""
        unit = levels.to(self.mean.device, torch.float64) * self.rescale  # in float64, as transformers does
        return (unit.to(self.mean.dtype) - self.mean) / self.std


_PROBE = (100, 75)
"""Width and height of an image that processors are tried on: neither square nor of any tower's size."""


class Preprocessing:
    """The image processor of a backbone folder, by PIL and numpy; S (``side``) is the input image's side in pixels.

    Raises
    ------
    BackboneError
        When transformers cannot read the processor's settings, or what they make of an image is not what the image
        tower takes in.
    """

    def __init__(self, folder: Path) -> None:
        # The default processor of transformers 5 resizes with torchvision and differs from PIL's by a level.
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        with reading(f"the image processor of backbone {folder} cannot be used"), np.errstate(all="ignore"):
            self._processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
            pixels = self.preprocess(Image.new("RGB", _PROBE))
        require_side(folder, pixels.shape[1:], read_clip_config(folder))
        self.side = int(pixels.shape[1])
        if not np.isfinite(pixels).all():
            raise BackboneError(
                f"the image processor of backbone {folder} makes pixels that are not finite; look at its image_std and "
                "rescale_factor, or take the file of another CLIP"
            )

    def preprocess(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return the pixels that CLIP sees of an RGB image, ``[3, S, S]``: resize, centre crop, normalisation."""
        pixels: npt.NDArray[np.float32] = self._processor(image, return_tensors="np")["pixel_values"][0]
        return pixels

    def crop(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return an RGB image after resize and crop, ``[3, S, S]``; :meth:`normalization` does the rest."""
        cropped = self._processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        pixels: npt.NDArray[np.uint8] = cropped["pixel_values"][0]
        return pixels

    def normalization(self) -> Normalization:
        """Return what makes of :meth:`crop`'s levels the very floats that :meth:`preprocess` gives."""
        own = self._processor
        mean, std = (own.image_mean, own.image_std) if own.do_normalize else ([0.0] * 3, [1.0] * 3)
        return Normalization(own.rescale_factor if own.do_rescale else 1.0, torch.tensor(mean), torch.tensor(std))
