"""FedML's messages on their way: a small label, and beside it the memory of their tensors, uncopied."""

from __future__ import annotations

import io
import mmap
import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fedml.core.distributed.communication.message import Message
from torch import Tensor

PIECE_BYTES = 2**30
"""Most that goes to MPI at once: it counts in 32-bit integers."""

LABEL_BYTES = 2**22
"""Most that a label may have: names, figures and sizes; a thousand tensors take some 200 kB."""

_HEAD, _MARK = struct.Struct("<8sI"), b"fedclip\x01"
"""How every label begins: a mark, and how many contents follow; then the size of each, in 8 bytes."""

_LARGE_BYTES = 2**25
"""From this size on, a message's memory is worth the kernel's attention."""


@dataclass(frozen=True)
class PackedMessage:
    """A message as it travels."""

    label: bytes  # the sizes of the contents, and pickle of the message without them
    contents: tuple[memoryview, ...]  # memory of the tensors: the sender's own, after receipt the receiver's

    @classmethod
    def expected(cls, label: bytes, most: int) -> PackedMessage:
        """Return a parcel with fresh room for the contents that ``label`` announces.

        What is no label, or announces more than ``most`` bytes, is a ValueError; nothing has been allocated then.
        """
        sizes = _sizes(label)
        if sum(sizes) > most:
            raise ValueError(f"it announces {sum(sizes):,} bytes of tensors; here a message has at most {most:,}")
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


def encode(message: Message) -> PackedMessage:
    """Return a message as a parcel.

    Tensors on the CPU are not copied: the parcel shares their memory.
    """
    contents: list[memoryview] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=lambda buffer: contents.append(buffer.raw())).dump(message)
    sizes = struct.pack(f"<{len(contents)}Q", *(content.nbytes for content in contents))
    return PackedMessage(_HEAD.pack(_MARK, len(contents)) + sizes + stream.getvalue(), tuple(contents))


def decode(parcel: PackedMessage) -> Message:
    """Return the message that :func:`encode` was given; its tensors share the parcel's memory."""
    pickled = memoryview(parcel.label)[_HEAD.size + 8 * len(parcel.contents) :]
    message: Message = pickle.loads(pickled, buffers=parcel.contents)
    return message


def _sizes(label: bytes) -> tuple[int, ...]:
    """Return the bytes of each of the contents that a label announces."""
    if len(label) < _HEAD.size or not label.startswith(_MARK):
        raise ValueError("it does not begin as a message does")
    _, count = _HEAD.unpack_from(label)
    if 8 * count > len(label) - _HEAD.size:
        raise ValueError(f"it announces {count:,} tensors and ends before their sizes")
    return struct.unpack_from(f"<{count}Q", label, _HEAD.size)


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
