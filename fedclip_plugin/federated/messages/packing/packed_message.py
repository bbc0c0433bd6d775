"""A message as it travels: a header of JSON that says what it is, and the bytes of its tensors.

A header is a mark, a checksum (CRC-32) of what follows, and JSON in UTF-8: ``{"kind": ..., "value": {...}}``. In it a
tensor is declared by type and shape (:mod:`~fedclip_plugin.federated.messages.packing.typed_values`). Nothing that is
read can name a class or a function: the receiver knows the kinds that it takes, and what each must have. All of that
is compared before memory for a tensor is taken. The checksum finds damage, not malice.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedclip_plugin.federated.messages.packing.tensor_layouts import NO_TENSORS, TensorLayout, layout_fault
from fedclip_plugin.federated.messages.packing.tensor_memory import PackedTensor, TensorSpec, unpacked
from fedclip_plugin.federated.messages.packing.typed_values import Record
from fedclip_plugin.text import told

PIECE_BYTES = 2**30
"""Most that goes to MPI at once: it counts in 32-bit integers."""

HEADER_BYTES = 2**24
"""Most that a header may have: names, figures and shapes; a thousand tensors take some 60 kB."""

_MARK, _CHECKSUM = b"fedclip\x02", struct.Struct("<I")
_BEGIN = len(_MARK) + _CHECKSUM.size
_ROOM = 2**20
"""Bytes of tensors that are received to be thrown away beyond those that a message of the kind may have."""

_DIGITS = 20  # of 64 bits, and a sign


@dataclass(frozen=True)
class PackedMessage:
    """A message that goes out.

    Attributes
    ----------
    kind
        What its receiver knows it by.
    header
        The bytes that go first.
    tensors
        What goes beside, in order; the memory is the sender's own.
    """

    kind: str
    header: bytes
    tensors: tuple[PackedTensor, ...]

    def __len__(self) -> int:
        """Return the bytes that travel."""
        return len(self.header) + sum(tensor.memory.nbytes for tensor in self.tensors)

    def pieces(self) -> Iterator[memoryview]:
        """Yield the tensors' bytes in parts that MPI can count."""
        return pieces_of([tensor.memory for tensor in self.tensors])


def pieces_of(contents: Sequence[memoryview]) -> Iterator[memoryview]:
    """Yield memory in parts that MPI can count."""
    for content in contents:
        for start in range(0, content.nbytes, PIECE_BYTES):
            yield content[start : start + PIECE_BYTES]


@dataclass(frozen=True)
class ExpectedKind:
    """What a receiver expects of one kind of message.

    Attributes
    ----------
    record
        Its values.
    layouts
        Its tensors: one of these.
    droppable
        Whether other tensors than those are the message's loss and no end of the job: they are received, thrown away
        and told of as :class:`UnexpectedTensors`.
    """

    record: Record
    layouts: Sequence[TensorLayout] = NO_TENSORS
    droppable: bool = False

    def most_bytes(self) -> int:
        """Return how many bytes of tensors a message of this kind has at most."""
        return max(layout.most_bytes() for layout in self.layouts)


@dataclass(frozen=True)
class UnexpectedTensors:
    """What stands in a message for tensors that were not those expected, and are not kept."""

    reason: str


class UnexpectedKindError(ValueError):
    """A message of a kind that is not expected where it arrives."""


class Announced:
    """A header that has arrived and is what its receiver expects; its tensors are still to come.

    Attributes
    ----------
    kind
        Of the message.
    specs
        Its tensors, in the order in which they come.
    unexpected
        What is wrong with them, where they are to be thrown away.
    """

    def __init__(self, kind: str, value: Any, record: Record) -> None:
        self.kind, self._value, self._record = kind, value, record
        specs: list[TensorSpec] = []

        def _note(spec: TensorSpec, as_array: bool) -> TensorSpec:
            specs.append(spec)
            return spec

        self._values = record.read(value, "", _note)
        self.specs, self.unexpected = tuple(specs), ""

    def values(self, contents: Sequence[memoryview] = ()) -> dict[str, Any]:
        """Return the message's values, whose tensors share the memory of ``contents``; a ValueError as in the header.

        Before the tensors are there, without contents, what is declared of them stands for them.
        """
        if not contents:
            return self._values
        left = iter(contents)
        return self._record.read(self._value, "", lambda spec, as_array: unpacked(spec, next(left), as_array))


def pack(kind: str, record: Record, values: Mapping[str, Any]) -> PackedMessage:
    """Return a message as it goes out; tensors on the CPU are not copied.

    Raises
    ------
    TypeError
        When the values are not those of the record: a fault of this program.
    ValueError
        When the header is longer than any receiver takes.
    """
    tensors: list[PackedTensor] = []
    value = record.write(values, "", tensors)
    text = json.dumps({"kind": kind, "value": value}, separators=(",", ":"), allow_nan=False).encode("ascii")
    if len(text) > HEADER_BYTES - _BEGIN:
        raise ValueError(f"a message of {len(text):,} bytes without its tensors: at most {HEADER_BYTES:,} can be sent")
    return PackedMessage(kind, _MARK + _CHECKSUM.pack(zlib.crc32(text)) + text, tuple(tensors))


def read_header(header: bytes, expected: Mapping[str, ExpectedKind]) -> Announced:
    """Return what a header announces.

    Raises
    ------
    ValueError
        When it is no header, or not what is expected; nothing has been allocated for it then.
    """
    message = _json(header)
    if type(message) is not dict or message.keys() != {"kind", "value"} or type(message["kind"]) is not str:
        raise ValueError("it is no object with a kind and a value")
    own = expected.get(message["kind"])
    if own is None:
        wanted = " or ".join(expected) or "nothing"
        raise UnexpectedKindError(f"it is of kind {told(message['kind'], 40)}; expected here: {wanted}")
    announced = Announced(message["kind"], message["value"], own.record)
    if fault := layout_fault(own.layouts, announced.specs):
        size, most = sum(spec.nbytes for spec in announced.specs), _ROOM + own.most_bytes()
        if own.droppable and size > most:
            raise ValueError(f"it announces {size:,} bytes of tensors; here a message has at most {most:,}")
        if not own.droppable:
            raise ValueError(fault)
        announced.unexpected = fault
    return announced


def _json(header: bytes) -> Any:
    """Return the JSON of a header: no key twice, no number that is not an integer of 64 bits."""
    if len(header) > HEADER_BYTES:
        raise ValueError(f"its header has more than {HEADER_BYTES:,} bytes")
    if len(header) < _BEGIN or not header.startswith(_MARK):
        raise ValueError("it does not begin as a message does")
    text = header[_BEGIN:]
    if _CHECKSUM.unpack_from(header, len(_MARK))[0] != zlib.crc32(text):
        raise ValueError("its header is damaged: the checksum is another one")
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key of its header stands there twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of its header has {len(digits):,} digits")
    return int(digits)


def _no_number(word: str) -> Any:
    raise ValueError(f"a number of its header is {told(word, 20)}: must be an integer, or bits of a double")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_without_repetition, parse_int=_integer, parse_float=_no_number, parse_constant=_no_number
)
