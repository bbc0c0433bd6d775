"""A small reader of the protobuf wire format: enough to look into an ONNX file without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MAX_FIELDS = 500_000
_MAX_NUMBER = 1 << 29


class WireError(ValueError):
    """Bytes that are not a protobuf message, or not one that this reader is willing to follow."""


class View(Protocol):
    """Bytes that can be sliced: ``bytes`` itself, or a file of which only slices are read."""

    def __len__(self) -> int:
        """Return the number of bytes."""

    def __getitem__(self, span: slice, /) -> bytes:
        """Return the bytes of one span."""


class FileView:
    """An open file as a :class:`View`; a large encoder is never in memory as a whole.

    Parameters
    ----------
    stream
        A file opened for reading, which can seek.
    size
        Its length in bytes.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice, /) -> bytes:
        start, end, _ = span.indices(self._size)
        self._stream.seek(start)
        return self._stream.read(max(end - start, 0))


class Budget:
    """How many fields may still be read: it bounds the time that a hostile file can take."""

    def __init__(self) -> None:
        self.left = _MAX_FIELDS

    def spend(self) -> None:
        """Count one field.

        Raises
        ------
        WireError
            When there were too many.
        """
        self.left -= 1
        if self.left < 0:
            raise WireError(f"it has more than {_MAX_FIELDS} fields")


class Message:
    """One message, its fields by number; nested messages are only read when they are asked for.

    Parameters
    ----------
    view
        The bytes that hold it.
    start, end
        Where it stands in them.
    budget
        Shared with every message of the same file.

    Raises
    ------
    WireError
        When this is not a message.
    """

    def __init__(self, view: View, start: int, end: int, budget: Budget) -> None:
        self._view = view
        self._budget = budget
        self._fields: dict[int, list[tuple[int, int, int]]] = {}
        for number, kind, first, last in _walk(view, start, end, budget):
            self._fields.setdefault(number, []).append((kind, first, last))

    def has(self, number: int) -> bool:
        """Tell whether the field is there."""
        return number in self._fields

    def messages(self, number: int) -> Iterator[Message]:
        """Yield the messages of a repeated field."""
        for start, end in self._spans(number):
            yield Message(self._view, start, end, self._budget)

    def message(self, number: int) -> Message:
        """Return the message of a field that must stand once.

        Protobuf merges a field that stands twice, so a reader that takes one of them would be deceived.
        """
        found = list(self.messages(number))
        if len(found) != 1:
            raise WireError(f"field {number} stands {len(found)} times instead of once")
        return found[0]

    def blob(self, number: int) -> bytes:
        """Return the bytes of a field that stands at most once; empty when it does not stand."""
        found = self._spans(number)
        if len(found) > 1:
            raise WireError(f"field {number} stands {len(found)} times instead of once")
        return self._view[found[0][0] : found[0][1]] if found else b""

    def text(self, number: int) -> str:
        """Return the text of a field that stands at most once."""
        try:
            return self.blob(number).decode("utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"field {number} is not text") from error

    def integers(self, number: int) -> list[int]:
        """Return the numbers of a repeated integer field, packed or not."""
        found: list[int] = []
        for kind, first, last in self._fields.get(number, []):
            if kind == VARINT:
                found.append(first)
            elif kind == BYTES:
                found += self._packed(first, last)
            else:
                raise WireError(f"field {number} is not an integer")
        return found

    def integer(self, number: int) -> int:
        """Return the number of a field that stands at most once; 0 when it does not stand."""
        found = self.integers(number)
        if len(found) > 1:
            raise WireError(f"field {number} stands {len(found)} times instead of once")
        return found[0] if found else 0

    def fixed(self, number: int, kind: int) -> bytes:
        """Return the bytes of a repeated field of 4 or 8 byte numbers, packed or not, one after the other."""
        parts = []
        for found, first, last in self._fields.get(number, []):
            if found not in (kind, BYTES):
                raise WireError(f"field {number} is not a real number")
            parts.append(self._view[first:last])
        return b"".join(parts)

    def _spans(self, number: int) -> list[tuple[int, int]]:
        fields = self._fields.get(number, [])
        if any(kind != BYTES for kind, _, _ in fields):
            raise WireError(f"field {number} is not of the kind that ONNX has there")
        return [(first, last) for _, first, last in fields]

    def _packed(self, position: int, end: int) -> Iterator[int]:
        while position < end:
            self._budget.spend()
            value, position = _varint(self._view, position, end)
            yield value


def _walk(view: View, position: int, end: int, budget: Budget) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, kind, and the span of each field; for a varint its value and 0 in place of the span."""
    while position < end:
        budget.spend()
        tag, position = _varint(view, position, end)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < _MAX_NUMBER:
            raise WireError(f"there is no field {number}")
        if kind == VARINT:
            value, position = _varint(view, position, end)
            yield number, kind, value, 0
            continue
        if kind == BYTES:
            length, position = _varint(view, position, end)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise WireError(f"a field has the unknown kind {kind}")
        if length > end - position:
            raise WireError("a field reaches beyond the end of its message")
        yield number, kind, position, position + length
        position += length


def _varint(view: View, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(view[position : min(position + 10, end)]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position + shift + 1
    raise WireError("an integer has no end")
