"""How the numbers of one tensor are written when an adapter travels: two bytes each, or one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

INT8_LIMIT = 127


@dataclass(frozen=True)
class Codec:
    """A lossy way to write a tensor."""

    suffixes: tuple[str, ...]  # what is appended to the tensor's name for each of its parts, in order
    encode: Callable[[Tensor], tuple[Tensor, ...]]  # from floats to the parts
    decode: Callable[..., Tensor]  # from the parts to float32 of the old shape, NaN and infinite values still such


def to_int8(values: Tensor) -> tuple[Tensor, Tensor]:
    """Write each row as whole multiples of its own scale, ``max|row| / 127``, rounded half to even.

    Rows are along the first dimension; a vector or a scalar is one row. R is the number of rows.

    Returns
    -------
    numbers, scales
        int8 of the shape of ``values``, and float32 ``[R]``: 0 for a row of zeros (or of nothing above the smallest
        normal float32), NaN or infinite for a row that holds such a value.
    """
    rows = values.flatten(1) if values.dim() > 1 else values.reshape(1, -1)
    scales = (rows.abs().amax(1) / INT8_LIMIT).float()
    scales = scales.where(~(scales < torch.finfo(torch.float32).tiny), 0.0)
    # A row with scale 0 or NaN gives NaN here, which has no integer; its scale alone says what the row is.
    numbers = (rows / scales[:, None]).nan_to_num_(0.0, 0.0, 0.0).round_().to(torch.int8)
    return numbers.reshape(values.shape), scales


def from_int8(numbers: Tensor, scales: Tensor) -> Tensor:
    """Return what :func:`to_int8` wrote, as float32."""
    rows = numbers.flatten(1) if numbers.dim() > 1 else numbers.reshape(1, -1)
    return (rows.float() * scales[:, None]).reshape(numbers.shape)


def to_half(values: Tensor) -> tuple[Tensor]:
    """Return the tensor as float16; what is beyond 65,504 becomes infinite."""
    return (values.half(),)


CODECS: Mapping[str, Codec | None] = {
    "none": None,
    "fp16": Codec(("",), to_half, Tensor.float),
    "int8": Codec(("", ":scale"), to_int8, from_int8),
}
"""Name in a recipe to codec; with ``none`` the parameters themselves travel, bit for bit.

:data:`~fedclip_plugin.recipe.schema.codec_bytes.CODEC_BYTES` says what each writes for a number.
"""
