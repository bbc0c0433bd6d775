"""Values as JSON and back, by their types: what a type does not say is neither written nor read.

=========================  =========================================================================
annotation                 in JSON
=========================  =========================================================================
``None``, ``bool``, ``str``  as in JSON
``int``                    as in JSON, within 64 bits with a sign
``float``                  16 hexadecimal digits: the bits of an IEEE 754 double. NaN and infinite values keep them, and
                           every number takes equally many bytes, so that messages of two runs do too
``Literal``                its value, one of those listed
``list``, ``tuple``        an array
``dict``, ``Mapping``      an object; keys that are integers as decimal digits
dataclass, pydantic model  an object with exactly its fields
``A | B``                  what A or B is; they must differ in JSON
tensor, numpy's array      ``[type, shape]``; its bytes travel beside the JSON, in the order of the tensors there
=========================  =========================================================================
"""

from __future__ import annotations

import dataclasses
import re
import struct
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import BaseModel
from torch import Tensor

from fedclip_plugin.federated.messages.packing.tensor_memory import PackedTensor, TensorSpec, packed
from fedclip_plugin.text import told

_DOUBLE = struct.Struct(">d")
_FLOAT = re.compile(r"[0-9a-f]{16}", re.ASCII)
_KEY = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_LARGEST = 2**63

Write = Callable[[Any, str, list[PackedTensor]], Any]
"""From a value, its place in the message and the tensors before it to JSON; tensors are added to the list."""

Take = Callable[[TensorSpec, bool], Any]
"""From a declared tensor, and whether it is to be numpy's array, to what stands for it."""

Read = Callable[[Any, str, Take], Any]
"""From JSON, its place in the message and what takes tensors to a value; a ValueError says what is wrong where."""


class Converter(NamedTuple):
    """How values of one type are written and read.

    Attributes
    ----------
    json
        The types that JSON has for them.
    write, read
        There and back. ``write`` raises a TypeError for a value of another type: that is a fault of this program.
    """

    json: frozenset[type]
    write: Write
    read: Read


class Record(NamedTuple):
    """Named values of given types.

    Attributes
    ----------
    fields
        Converter of each value.
    optional
        Names of those that may be missing.
    """

    fields: Mapping[str, Converter]
    optional: frozenset[str] = frozenset()

    def write(self, values: Mapping[str, Any], place: str, tensors: list[PackedTensor]) -> dict[str, Any]:
        """Return the values as a JSON object; a TypeError when they are not those of the record."""
        if fault := self._fault(values):
            raise TypeError(f"{place or 'a message'}: {fault}")
        return {
            name: converter.write(values[name], _inside(place, name), tensors)
            for name, converter in self.fields.items()
            if name in values
        }

    def read(self, value: Any, place: str, take: Take) -> dict[str, Any]:
        """Return the values that a JSON object has; a ValueError when they are not those of the record."""
        if type(value) is not dict:
            raise ValueError(f"{place or 'it'} is {_told(value)}: must be an object")
        if fault := self._fault(value):
            raise ValueError(f"{place or 'it'} has {fault}")
        fields = self.fields
        return {name: fields[name].read(content, _inside(place, name), take) for name, content in value.items()}

    def _fault(self, values: Mapping[str, Any]) -> str | None:
        unknown = values.keys() - self.fields.keys()
        missing = self.fields.keys() - values.keys() - self.optional
        if not unknown and not missing:
            return None
        return f"fields missing: {_names(missing)}; unknown: {_names(unknown)}"


def record_of(kind: type[Any]) -> Record:
    """Return the record of a dataclass or a pydantic model; a TypeError where a field has a type that cannot travel."""
    if kind not in _records:
        hints = get_type_hints(kind)
        fields = kind.model_fields if issubclass(kind, BaseModel) else [own.name for own in dataclasses.fields(kind)]
        _records[kind] = Record({name: converter_of(hints[name]) for name in fields})
    return _records[kind]


_records: dict[type[Any], Record] = {}


@cache
def converter_of(annotation: Any) -> Converter:
    """Return how values of an annotation are written and read; a TypeError for one that cannot travel."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Tensor or (origin or annotation) is np.ndarray:
        return _tensor(annotation is not Tensor)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is Literal:
        return _literal(arguments)
    if origin in (list, tuple):
        return _sequence(origin, arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(origin, *arguments)
    if isinstance(annotation, type) and (dataclasses.is_dataclass(annotation) or issubclass(annotation, BaseModel)):
        return _object(annotation)
    raise TypeError(f"{annotation} cannot travel in a message")


def _exactly(kind: type, words: str) -> Converter:
    def _write(value: Any, place: str, tensors: list[PackedTensor]) -> Any:
        if type(value) is not kind:
            raise TypeError(f"{place} is {told(value)}, not {words}")
        return value

    def _read(value: Any, place: str, take: Take) -> Any:
        if type(value) is not kind:
            raise ValueError(f"{place} is {_told(value)}: must be {words}")
        return value

    return Converter(frozenset([kind]), _write, _read)


def _write_bool(value: Any, place: str, tensors: list[PackedTensor]) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{place} is {told(value)}, not true or false")
    return bool(value)


def _write_int(value: Any, place: str, tensors: list[PackedTensor]) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not -_LARGEST <= value < _LARGEST:
        raise TypeError(f"{place} is {told(value)}, not an integer of 64 bits")
    return int(value)


def _read_int(value: Any, place: str, take: Take) -> int:
    if type(value) is not int or not -_LARGEST <= value < _LARGEST:
        raise ValueError(f"{place} is {_told(value)}: must be an integer of 64 bits")
    return value


def _write_float(value: Any, place: str, tensors: list[PackedTensor]) -> str:
    if isinstance(value, bool) or not isinstance(value, (float, int, np.floating, np.integer)):
        raise TypeError(f"{place} is {told(value)}, not a number")
    return _DOUBLE.pack(value).hex()


def _read_float(value: Any, place: str, take: Take) -> float:
    if type(value) is not str or _FLOAT.fullmatch(value) is None:
        raise ValueError(f"{place} is {_told(value)}: must be the 16 hexadecimal digits of a number")
    number: float = _DOUBLE.unpack(bytes.fromhex(value))[0]
    return number


_PLAIN: dict[Any, Converter] = {
    type(None): _exactly(type(None), "nothing"),
    str: _exactly(str, "text"),
    bool: _exactly(bool, "true or false")._replace(write=_write_bool),
    int: Converter(frozenset([int]), _write_int, _read_int),
    float: Converter(frozenset([str]), _write_float, _read_float),
}


def _tensor(as_array: bool) -> Converter:
    def _write(value: Any, place: str, tensors: list[PackedTensor]) -> list[Any]:
        if not isinstance(value, np.ndarray if as_array else Tensor):
            raise TypeError(f"{place} is {told(value)}, not {'an array' if as_array else 'a tensor'}")
        made = packed(place, value)
        tensors.append(made)
        return [made.spec.dtype, list(made.spec.shape)]

    def _read(value: Any, place: str, take: Take) -> Any:
        if type(value) is not list or len(value) != 2:
            raise ValueError(f"{place} is {_told(value)}: must be type and shape of a tensor")
        return take(TensorSpec.declared(place, *value), as_array)

    return Converter(frozenset([list]), _write, _read)


def _union(members: tuple[Any, ...]) -> Converter:
    converters = [converter_of(member) for member in members]
    by_json = {kind: converter for converter in converters for kind in converter.json}
    if len(by_json) != sum(len(converter.json) for converter in converters):
        raise TypeError(f"{' | '.join(map(str, members))} cannot travel: two of these are alike in JSON")

    def _write(value: Any, place: str, tensors: list[PackedTensor]) -> Any:
        for converter in converters:
            before = len(tensors)
            try:
                return converter.write(value, place, tensors)
            except TypeError:
                del tensors[before:]
        raise TypeError(f"{place} is {told(value)}, which is none of {' | '.join(map(str, members))}")

    def _read(value: Any, place: str, take: Take) -> Any:
        if type(value) not in by_json:
            kinds = ", ".join(sorted(_WORDS[kind] for kind in by_json))
            raise ValueError(f"{place} is {_told(value)}: must be one of: {kinds}")
        return by_json[type(value)].read(value, place, take)

    return Converter(frozenset(by_json), _write, _read)


def _literal(allowed: tuple[Any, ...]) -> Converter:
    kinds = frozenset(type(value) for value in allowed)
    if not kinds <= {str, int, bool, type(None)}:
        raise TypeError(f"{allowed} cannot travel: JSON has no such constants")
    words = ", ".join(map(str, allowed))

    def _known(value: Any) -> bool:
        return any(type(value) is type(one) and value == one for one in allowed)

    def _write(value: Any, place: str, tensors: list[PackedTensor]) -> Any:
        if not _known(value):
            raise TypeError(f"{place} is {told(value)}, not one of {words}")
        return value

    def _read(value: Any, place: str, take: Take) -> Any:
        if not _known(value):
            raise ValueError(f"{place} is {_told(value)}: must be one of {words}")
        return value

    return Converter(kinds, _write, _read)


def _sequence(kind: Any, arguments: tuple[Any, ...]) -> Converter:
    alike = kind is list or (len(arguments) == 2 and arguments[1] is Ellipsis)
    converters = [converter_of(each) for each in (arguments[:1] if alike else arguments)]

    def _each(count: int) -> list[Converter] | None:
        if alike:
            return converters * count
        return converters if count == len(converters) else None

    def _write(value: Any, place: str, tensors: list[PackedTensor]) -> list[Any]:
        own = _each(len(value)) if isinstance(value, kind) else None
        if own is None:
            raise TypeError(f"{place} is {told(value)}, not a {kind.__name__} of its length")
        pairs = enumerate(zip(own, value, strict=True))
        return [converter.write(one, f"{place}.{number}", tensors) for number, (converter, one) in pairs]

    def _read(value: Any, place: str, take: Take) -> Any:
        own = _each(len(value)) if type(value) is list else None
        if own is None:
            length = "" if alike else f" of {len(converters)}"
            raise ValueError(f"{place} is {_told(value)}: must be a list{length}")
        pairs = enumerate(zip(own, value, strict=True))
        return kind([converter.read(one, f"{place}.{number}", take) for number, (converter, one) in pairs])

    return Converter(frozenset([list]), _write, _read)


def _mapping(origin: type, key: type, content: Any) -> Converter:
    if key not in (str, int):
        raise TypeError(f"a mapping by {key} cannot travel: keys are text or integers")
    converter, made = converter_of(content), OrderedDict if issubclass(origin, OrderedDict) else dict

    def _write(value: Any, place: str, tensors: list[PackedTensor]) -> dict[str, Any]:
        if not isinstance(value, Mapping) or any(type(name) is not key for name in value):
            raise TypeError(f"{place} is {told(value)}, not a mapping by {key.__name__}")
        return {str(name): converter.write(one, f"{place}.{name}", tensors) for name, one in value.items()}

    def _read(value: Any, place: str, take: Take) -> Any:
        if type(value) is not dict:
            raise ValueError(f"{place} is {_told(value)}: must be an object")
        if key is int and (wrong := [name for name in value if not _KEY.fullmatch(name)]):
            raise ValueError(f"{place} has the key {told(wrong[0], 40)}: must be an integer")
        return made((key(name), converter.read(one, f"{place}.{name}", take)) for name, one in value.items())

    return Converter(frozenset([dict]), _write, _read)


def _object(kind: type[Any]) -> Converter:
    def _write(value: Any, place: str, tensors: list[PackedTensor]) -> dict[str, Any]:
        if type(value) is not kind:
            raise TypeError(f"{place} is {told(value)}, not a {kind.__name__}")
        record = record_of(kind)
        return record.write({name: getattr(value, name) for name in record.fields}, place, tensors)

    def _read(value: Any, place: str, take: Take) -> Any:
        return made_of(kind, record_of(kind).read(value, place, take))

    return Converter(frozenset([dict]), _write, _read)


def made_of(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Return an object of a class from its fields; a ValueError when these do not go together."""
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"a {kind.__name__} whose fields do not go together: {told(str(error), 200)}") from error


_WORDS = {
    type(None): "nothing",
    bool: "true or false",
    int: "an integer",
    str: "text",
    list: "a list",
    dict: "an object",
}


def _told(value: Any) -> str:
    return told(value, 40) if value is None or type(value) in (str, int, bool) else _WORDS.get(type(value), "a number")


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _names(names: Any) -> str:
    found = sorted(names)
    more = f" and {len(found) - 3:,} more" if len(found) > 3 else ""
    return (", ".join(told(name, 40) for name in found[:3]) or "none") + more
