"""The memory of tensors on their way: declared, sent from where it lies, and kept where it arrives."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    )
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}

_MOST_DIMENSIONS, _MOST_BYTES = 8, 2**48
_LARGE_BYTES = 2**25
"""From this size on, a message's memory is worth the kernel's attention."""


class TensorSpec(NamedTuple):
    """What is declared of a tensor.

    Attributes
    ----------
    name
        Where it stands in its message: field, key and place, with dots between them.
    dtype
        Such as ``float32``; numbers are little-endian.
    shape
        Its dimensions.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def declared(cls, name: str, dtype: Any, shape: Any) -> TensorSpec:
        """Return what a sender declares; a ValueError where there is no such tensor."""
        if type(dtype) is not str or dtype not in _TYPES:
            raise ValueError(f"{name} has a type that no tensor here has")
        if type(shape) is not list or len(shape) > _MOST_DIMENSIONS:
            raise ValueError(f"{name} has no shape of at most {_MOST_DIMENSIONS} dimensions")
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError(f"{name} has a dimension that is no number of elements")
        if math.prod(max(size, 1) for size in shape) * _TYPES[dtype].itemsize > _MOST_BYTES:
            raise ValueError(f"{name} has more than {_MOST_BYTES:,} bytes")
        return cls(name, dtype, tuple(shape))

    @property
    def nbytes(self) -> int:
        """Bytes that its elements take."""
        return math.prod(self.shape) * _TYPES[self.dtype].itemsize

    def look(self) -> str:
        """Return type and shape as words."""
        return f"{self.dtype} {list(self.shape)}"


def spec_of(name: str, value: Tensor | NDArray[Any]) -> TensorSpec:
    """Return the declaration of a tensor or an array; a ValueError for a kind that does not travel."""
    dtype = _NAMES.get(value.dtype, "") if isinstance(value, Tensor) else value.dtype.name
    if dtype not in _TYPES or (dtype == "bfloat16" and not isinstance(value, Tensor)):
        raise ValueError(f"{name} is {value.dtype}, and tensors of that type do not travel")
    return TensorSpec(name, dtype, tuple(value.shape))


@dataclass(frozen=True)
class PackedTensor:
    """A tensor that goes out: what is declared of it, and its bytes where they lie."""

    spec: TensorSpec
    memory: memoryview


def packed(name: str, value: Tensor | NDArray[Any]) -> PackedTensor:
    """Return a tensor or an array as it goes out; what is contiguous and on the CPU is not copied."""
    spec = spec_of(name, value)
    if isinstance(value, Tensor):
        flat: NDArray[Any] = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    else:
        flat = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
    return PackedTensor(spec, flat.data)


def unpacked(spec: TensorSpec, memory: memoryview, as_array: bool) -> Tensor | NDArray[Any]:
    """Return the tensor, or the array, whose bytes these are; they are shared.

    Raises
    ------
    ValueError
        When there are other bytes than declared, or bytes that are no truth values where such are declared.
    """
    if memory.nbytes != spec.nbytes:
        raise ValueError(f"{spec.name} has {memory.nbytes:,} bytes, {spec.nbytes:,} were declared")
    raw = np.frombuffer(memory, np.uint8)
    if spec.dtype == "bool" and raw.size and raw.max() > 1:
        raise ValueError(f"{spec.name} has bytes that are neither true nor false")
    if as_array:
        if spec.dtype == "bfloat16":
            raise ValueError(f"{spec.name} is bfloat16, and arrays of that type do not travel")
        return raw.view(np.dtype(spec.dtype)).reshape(spec.shape)
    return torch.from_numpy(raw).view(_TYPES[spec.dtype]).reshape(spec.shape)


def room_for(specs: Sequence[TensorSpec]) -> list[memoryview]:
    """Return fresh memory for tensors, to be written and then kept: it becomes the received tensors."""
    room = _mapped if sum(spec.nbytes for spec in specs) >= _LARGE_BYTES else _allocated
    return [room(spec.nbytes) for spec in specs]


def _allocated(size: int) -> memoryview:
    """Return memory aligned for torch's arithmetic."""
    return torch.empty(size, dtype=torch.uint8).numpy().data


def _mapped(size: int) -> memoryview:
    """Return memory that goes back to the kernel when its tensor does.

    free() would keep for the thread that receives what other threads free: one more copy of a large model. For small
    messages the kernel's part would take longer than the rest of the round trip.
    """
    if size < mmap.PAGESIZE:
        return _allocated(size)
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
