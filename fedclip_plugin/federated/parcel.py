"""FedML's messages on their way: a small label, and beside it the memory of their tensors, uncopied."""

from __future__ import annotations

import io
import mmap
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fedml.core.distributed.communication.message import Message
from torch import Tensor

PIECE_BYTES = 2**30
"""Most that goes to MPI at once: it counts in 32-bit integers."""

_LARGE_BYTES = 2**25
"""From this size on, a message's memory is worth the kernel's attention."""


@dataclass(frozen=True)
class Parcel:
    """A message as it travels.

    Attributes
    ----------
    label
        Pickle of the sizes of the contents and of the message without them.
    contents
        Memory of the message's tensors: the sender's own, and after receipt the receiver's.
    """

    label: bytes
    contents: tuple[memoryview, ...]

    @classmethod
    def expected(cls, label: bytes) -> Parcel:
        """Return a parcel with fresh room for the contents that ``label`` announces."""
        sizes, _ = pickle.loads(label)
        room = _mapped if sum(sizes) >= _LARGE_BYTES else _allocated
        return cls(label, tuple(room(size) for size in sizes))

    def __len__(self) -> int:
        """Return the bytes that travel."""
        return len(self.label) + sum(content.nbytes for content in self.contents)

    def pieces(self) -> Iterator[memoryview]:
        """Yield the contents in parts that MPI can count."""
        for content in self.contents:
            for start in range(0, content.nbytes, PIECE_BYTES):
                yield content[start : start + PIECE_BYTES]


def encode(message: Message) -> Parcel:
    """Return a message as a parcel.

    Tensors on the CPU are not copied: the parcel shares their memory.
    """
    contents: list[memoryview] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=lambda buffer: contents.append(buffer.raw())).dump(message)
    label = pickle.dumps(([content.nbytes for content in contents], stream.getvalue()), protocol=5)
    return Parcel(label, tuple(contents))


def decode(parcel: Parcel) -> Message:
    """Return the message that :func:`encode` was given; its tensors share the parcel's memory."""
    _, pickled = pickle.loads(parcel.label)
    message: Message = pickle.loads(pickled, buffers=parcel.contents)
    return message


class _Pickler(pickle.Pickler):
    """Leaves the memory of tensors out of the pickle, as numpy's arrays do by themselves."""

    def reducer_override(self, value: Any) -> Any:
        """Describe a tensor by its bytes, type and shape; anything else is pickled as usual."""
        if not isinstance(value, Tensor):
            return NotImplemented
        flat = value.detach().cpu().contiguous().reshape(-1)
        return _tensor, (pickle.PickleBuffer(flat.view(torch.uint8).numpy().data), value.dtype, tuple(value.shape))


def _allocated(size: int) -> memoryview:
    """Return memory aligned for torch's arithmetic: it becomes a received tensor."""
    return torch.empty(size, dtype=torch.uint8).numpy().data


def _mapped(size: int) -> memoryview:
    """Return memory that goes back to the kernel when its tensor does.

    free() would keep for the thread that receives what other threads free: one more copy of a large model. For small
    messages the kernel's part would take longer than the rest of the round trip.
    """
    if size < mmap.PAGESIZE:
        return _allocated(size)
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def _tensor(content: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8)).view(dtype).reshape(shape)
