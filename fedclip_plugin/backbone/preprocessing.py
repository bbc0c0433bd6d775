"""From an image to what a backbone's image tower sees, as its own processor does; needs no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from fedclip_plugin.backbone.checkpoint import reading, require_side
from fedclip_plugin.backbone.configs.clip_config import read_clip_config
from fedclip_plugin.backbone.configs.open_clip_config import OpenClipConfig
from fedclip_plugin.data.decoding.center_crop import CenterCrop, Levels
from fedclip_plugin.data.decoding.decode import ImageViews, See
from fedclip_plugin.data.decoding.views import each_view
from fedclip_plugin.errors import BackboneError


class Normalization(nn.Module):
    """Rescale (a factor, ``1 / 255``) and normalise by channel, bit for bit as transformers' numpy processor does.

    The 256 floats of each channel are computed once, and looked up: equal on every device.
    """

    table: Tensor

    def __init__(self, rescale: float, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        unit = (torch.arange(256, dtype=torch.float64) * rescale).to(mean.dtype)  # in float64, as transformers does
        self.register_buffer("table", (unit - mean[:, None]) / std[:, None], persistent=False)

    def forward(self, levels: Tensor) -> Tensor:
        """Return pixels of zero mean, ``[B, 3, S, S]``, contiguous, of uint8 levels of that shape on any device."""
        table, levels = self.table, levels.to(self.table.device, non_blocking=True)
        if table.is_cuda:
            first = 256 * torch.arange(len(table), dtype=torch.int32, device=table.device)[:, None, None]
            return table.flatten()[levels.to(torch.int32, memory_format=torch.contiguous_format) + first]
        return self.of_images(list(np.moveaxis(levels.numpy(), 1, -1)))

    def of_images(self, images: Sequence[Levels], room: Tensor | None = None) -> Tensor:
        """Return the same of images ``[S, S, 3]``, on the CPU.

        ``room`` is pixels of earlier images, to be written over if they are enough: new memory costs more than looking
        up.
        """
        shape = (len(images), 3, *images[0].shape[:2])
        fits = room is not None and len(room) >= len(images) and room.shape[1:] == shape[1:]
        pixels = room[: len(images)] if room is not None and fits else torch.empty(shape, dtype=self.table.dtype)
        for image, floats in zip(images, pixels.numpy(), strict=True):
            for channel, own in enumerate(self.table.numpy()):
                np.take(own, image[:, :, channel], out=floats[channel], mode="clip")
        return pixels


def processor_of(folder: Path) -> Any:
    """Return transformers' image processor of a backbone folder, by PIL; errors as transformers raises them.

    Of an OpenCLIP folder it is one that does the same, but for the odd margins of its centre crop.
    """
    # The default processor of transformers 5 resizes with torchvision and differs from PIL's by a level.
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    config = read_clip_config(folder)
    if not isinstance(config, OpenClipConfig):
        kinds = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil}
        return kinds[config.family].from_pretrained(folder, local_files_only=True)
    square = {"height": config.side, "width": config.side}
    levels = {"resample": config.resample, "image_mean": config.mean, "image_std": config.std}
    if config.squash:
        return SiglipImageProcessorPil(size=square, **levels)
    return CLIPImageProcessorPil(size={"shortest_edge": config.side}, crop_size=square, **levels)


def center_crop_of(folder: Path, processor: Any) -> CenterCrop | None:
    """Return how a backbone's processor resizes and crops; None where PIL alone cannot do it."""
    crop = CenterCrop.of(processor.to_dict())
    torchvisions = read_clip_config(folder).family == "open_clip"
    return replace(crop, half_even=True) if crop and torchvisions and not crop.squash else crop


_PROBE = (100, 75)
"""Width and height of an image that processors are tried on: neither square nor of any tower's size."""


class Preprocessing:
    """The image processor of a backbone folder, by PIL and numpy; S (``side``) is the input image's side in pixels.

    Resize and crop are PIL's own where the processor's settings are those of a CLIP (``center_crop``); where that is
    None they are left to transformers.

    Raises
    ------
    BackboneError
        When transformers cannot read the processor's settings, or what they make of an image is not what the image
        tower takes in.
    """

    def __init__(self, folder: Path) -> None:
        with reading(f"the image processor of backbone {folder} cannot be used"), np.errstate(all="ignore"):
            self._processor = processor_of(folder)
            pixels = self._processor(Image.new("RGB", _PROBE), return_tensors="np")["pixel_values"][0]
        require_side(folder, pixels.shape[1:], read_clip_config(folder))
        self.side = int(pixels.shape[1])
        self.center_crop = center_crop_of(folder, self._processor)
        self._normalization = self.normalization()
        if not self._normalization.table.isfinite().all():
            raise BackboneError(
                f"the image processor of backbone {folder} makes pixels that are not finite; look at its image_std and "
                "rescale_factor, or take the file of another CLIP"
            )

    def see(self, views: Sequence[int] = (0,), whole: int = 0) -> See:
        """Return what makes :meth:`levels` of each of an image's augmented views; 0 is the image itself.

        Where ``center_crop`` is known, images of up to ``whole`` bytes are left as they are.
        """
        if self.center_crop is not None:
            return ImageViews(self.center_crop, tuple(views), whole)
        return lambda image: [self.levels(seen) for seen in each_view(image, views)]

    def levels(self, image: Image.Image) -> Levels:
        """Return an RGB image after resize and crop, ``[S, S, 3]``; :meth:`normalization` does the rest."""
        if self.center_crop is not None:
            return self.center_crop(image)
        cropped = self._processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        levels: Levels = np.moveaxis(cropped["pixel_values"][0], 0, -1)
        return levels

    def crop(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return :meth:`levels` channel by channel, ``[3, S, S]``: what methods on pixels are given."""
        return np.ascontiguousarray(np.moveaxis(self.levels(image), -1, 0))

    def preprocess(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Return the pixels that the image tower sees of an RGB image, ``[3, S, S]``: resize, crop, normalisation."""
        pixels: npt.NDArray[np.float32] = self._normalization.of_images([self.levels(image)])[0].numpy()
        return pixels

    def normalization(self) -> Normalization:
        """Return what makes of :meth:`crop`'s levels the very floats that :meth:`preprocess` gives."""
        own = self._processor
        mean, std = (own.image_mean, own.image_std) if own.do_normalize else ([0.0] * 3, [1.0] * 3)
        return Normalization(own.rescale_factor if own.do_rescale else 1.0, torch.tensor(mean), torch.tensor(std))
