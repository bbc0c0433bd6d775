"""PIL's bicubic resize and centre crop by matrix products, on any device, equal to PIL's to the bit.

Pillow rounds the weights of its filter to multiples of ``2**-22``, and sums of weighted levels to whole levels
(``ImagingResample`` in its ``Resample.c``). The same whole numbers stand in float64 here, where their sums are exact in
whatever order a device adds them, at any scale; no setting such as TF32 touches products of float64.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import PIL
import torch
from PIL import Image
from torch import Tensor

from fedclip_plugin.data.decoding.center_crop import CenterCrop

logger = logging.getLogger(__name__)

_FRACTION = 2.0**22  # PRECISION_BITS of Resample.c
_SUPPORT = 2.0  # half width of the filter, in source pixels when enlarging
_SHARPNESS = -0.5  # the filter's parameter a
_AT_ONCE = 1 << 25  # levels, of 8 bytes each on the way
_TRIED = ((227, 227), (500, 375), (40, 61), (300, 700), (1200, 90))  # widths and heights, of `agrees_with_pil`


class _Axis(NamedTuple):
    start: int
    stop: int  # the window of the source that the centre needs, N long
    weights: Tensor  # whole numbers in float64, ``[S, N]``


class ExactResize:
    """A bicubic :class:`CenterCrop` of images that lie on a device."""

    def __init__(self, crop: CenterCrop, device: torch.device) -> None:
        self.crop, self.device = crop, device
        self._axis = lru_cache(maxsize=256)(self._make_axis)

    @classmethod
    def on(cls, device: torch.device, crop: CenterCrop | None) -> Self | None:
        """Return what resizes on a GPU; None on a CPU, where PIL is faster, and where it would differ from PIL.

        None too where an image that is cropped already could be taken for one that is not.
        """
        if device.type != "cuda" or crop is None or crop.shorter != crop.side or crop.half_even:
            return None
        if crop.squash or crop.resample != Image.Resampling.BICUBIC:
            return None
        resize = cls(crop, device)
        if resize.agrees_with_pil():
            return resize
        logger.warning("images are resized on the CPU: %s and Pillow %s give other pixels", device, PIL.__version__)
        return None

    def __call__(self, images: Tensor) -> Tensor:
        """Return the levels of RGB images of one size, uint8 ``[B, H, W, 3]`` to ``[B, S, S, 3]``."""
        few = max(1, _AT_ONCE // images[0].numel())
        return torch.cat([self._resized(part) for part in images.to(self.device, non_blocking=True).split(few)])

    def agrees_with_pil(self) -> bool:
        """Return whether noise and extremes come out as PIL makes them, on this device and with this Pillow."""
        rng = np.random.default_rng(0)
        for width, height in _TRIED:
            noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            for levels in (noise, (noise > 127).astype(np.uint8) * 255):
                found = self(torch.from_numpy(levels)[None])[0].cpu().numpy()
                if not np.array_equal(found, self.crop(Image.fromarray(levels))):
                    return False
        return True

    def _resized(self, images: Tensor) -> Tensor:
        height, width = images.shape[1:3]
        wide, high = self.crop.resized(width, height)
        columns, rows = self._axis(width, wide), self._axis(height, high)
        window = images[:, rows.start : rows.stop, columns.start : columns.stop]
        levels = window.permute(0, 3, 1, 2).to(torch.float64)
        if self.crop.shrinks_height_first(width, height):
            levels = _levels(_levels(rows.weights @ levels) @ columns.weights.T)
        else:
            levels = _levels(rows.weights @ _levels(levels @ columns.weights.T))
        return levels.to(torch.uint8).permute(0, 2, 3, 1)

    def _make_axis(self, source: int, target: int) -> _Axis:
        start, stop, weights = _centre_weights(source, target, self.crop.side)
        return _Axis(start, stop, torch.from_numpy(weights).to(self.device))


def _centre_weights(source: int, target: int, side: int) -> tuple[int, int, npt.NDArray[np.float64]]:
    """Return what the centre, ``side`` long, of an axis that is resized needs of the source: a window, and weights."""
    scale = source / target
    stretch = max(scale, 1.0)
    centres = (np.arange(side) + (target - side) // 2 + 0.5) * scale
    low = np.maximum((centres - _SUPPORT * stretch + 0.5).astype(np.int64), 0)
    high = np.minimum((centres + _SUPPORT * stretch + 0.5).astype(np.int64), source)
    start, stop = int(low[0]), int(high[-1])
    at = np.arange(start, stop)
    weights = _cubic((at - centres[:, None] + 0.5) * (1.0 / stretch))
    weights[(at < low[:, None]) | (at >= high[:, None])] = 0.0
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # added up one after the other, as Pillow does
    weights *= _FRACTION
    return start, stop, np.trunc(weights + np.copysign(0.5, weights))


def _cubic(x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Pillow's ``bicubic_filter``, in its order of operations."""
    x = np.abs(x)
    near = ((_SHARPNESS + 2) * x - (_SHARPNESS + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _SHARPNESS
    return np.where(x < 1, near, np.where(x < _SUPPORT, far, 0.0))


def _levels(sums: Tensor) -> Tensor:
    return sums.add_(_FRACTION / 2).mul_(1 / _FRACTION).floor_().clamp_(0, 255)
