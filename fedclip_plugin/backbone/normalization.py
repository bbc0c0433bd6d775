"""From an image's levels to the floats that CLIP's image tower takes in, on any device."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Normalization(nn.Module):
    """Rescale and normalise, bit for bit as transformers' numpy processor does.

    Parameters
    ----------
    rescale
        Factor on the levels, ``1 / 255``.
    mean, std
        Of the three channels, ``[3]``, of values between 0 and 1.
    """

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
