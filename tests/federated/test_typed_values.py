"""Values of every type that messages have go to JSON and back; what a type does not say is refused there and here."""

import json
import math
import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fedclip_plugin.federated.messages.packing.tensor_memory import unpacked
from fedclip_plugin.federated.messages.packing.typed_values import converter_of, record_of


class Pair(NamedTuple):
    one: float
    two: float


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    count: int = Field(ge=0)


@dataclass(frozen=True)
class Inner:
    name: str
    number: int


@dataclass(frozen=True)
class Outer:
    inner: Inner | None
    many: tuple[Inner, ...]
    named: Mapping[str, Inner]
    state: Literal["on", "off", 3]


def there_and_back(annotation, value):
    converter, tensors = converter_of(annotation), []
    text = json.dumps(converter.write(value, "it", tensors), allow_nan=False)
    left = iter(tensors)
    read = converter.read(json.loads(text), "it", lambda spec, as_array: unpacked(spec, next(left).memory, as_array))
    assert next(left, None) is None
    return read


NUMBERS = [0.0, -0.0, 1.5, -1e-320, math.pi, math.inf, -math.inf, 2.0**1023]
VALUES = [
    *((float, number) for number in NUMBERS),
    (int, -(2**63)),
    (int, 2**63 - 1),
    (bool, True),
    (str, "\x00\udcff\u732b\U0001f638"),
    (type(None), None),
    (float | None, None),
    (float | None, 0.1),
    (int | str | None, "3"),
    (Literal["a", 1, None], 1),
    (tuple[int, ...], ()),
    (tuple[int, str, float], (1, "a", 0.5)),
    (list[list[bool]], [[], [True, False]]),
    (dict[str, int], {"b": 1, "": 2}),
    (Mapping[int, str], {-7: "x", 0: "y"}),
    (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    (Model, Model(count=3)),
    (Outer, Outer(Inner("a", 1), (Inner("b", 2),), {"k": Inner("c", 3)}, "off")),
    (Outer, Outer(None, (), {}, 3)),
]


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=[f"{number}" for number in range(len(VALUES))])
def test_a_value_comes_back_as_it_was(annotation, value):
    back = there_and_back(annotation, value)
    assert back == value
    assert type(back) is type(value)
    if isinstance(value, float):
        assert struct.pack("d", back) == struct.pack("d", value)


@pytest.mark.parametrize("bits", [0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001])
def test_every_bit_of_a_nan_is_kept(bits):
    (value,) = struct.unpack(">d", bits.to_bytes(8, "big"))
    assert struct.pack(">d", there_and_back(float, value)) == bits.to_bytes(8, "big")


def test_numpys_scalars_and_named_tuples_become_plain_values():
    assert there_and_back(tuple[int, float, bool], (np.int64(3), np.float32(0.5), np.bool_(True))) == (3, 0.5, True)
    back = there_and_back(tuple[float, float], Pair(1.0, 2))
    assert back == (1.0, 2.0)
    assert type(back) is tuple


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (4,), (2, 3)])
def test_arrays_of_every_type_and_shape_come_back(dtype, shape):
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    back = there_and_back(NDArray[Any], array)
    assert back.dtype == array.dtype
    assert back.shape == shape
    assert (back == array).all()
    tensor = there_and_back(dict[str, Tensor], {"x": torch.from_numpy(array.copy())})["x"]
    assert torch.equal(tensor, torch.from_numpy(array))
    swapped = array.astype(array.dtype.newbyteorder(">"))
    assert (there_and_back(NDArray[Any], swapped) == array).all()
    assert (there_and_back(NDArray[Any], np.stack([array, array])[::-1][0:1]) == array).all()


REFUSED = [
    (int, "1", "it is 1: must be an integer of 64 bits"),
    (int, True, "it is True: must be an integer of 64 bits"),
    (bool, 1, "it is 1: must be true or false"),
    (str, None, "it is None: must be text"),
    (type(None), 0, "it is 0: must be nothing"),
    (float, 1, "it is 1: must be the 16 hexadecimal digits of a number"),
    (float, "3FF0000000000000", "it is 3FF0000000000000: must be the 16"),
    (float, "3ff000000000000", "must be the 16"),
    (float, "3ff0 00000000000", "must be the 16"),
    (float, "\u0663ff000000000000", "must be the 16"),
    (float | None, 3, "it is 3: must be one of: nothing, text"),
    (Literal["a", 1], "b", "it is b: must be one of a, 1"),
    (Literal["a", 1], True, "it is True: must be one of a, 1"),
    (Literal["a", 1], [1], "it is a list: must be one of a, 1"),
    (tuple[int, ...], [1, "2"], "it.1 is 2: must be an integer"),
    (tuple[int, ...], {}, "it is an object: must be a list"),
    (tuple[int, int], [1], "it is a list: must be a list of 2"),
    (dict[str, int], [], "it is a list: must be an object"),
    (dict[int, int], {"01": 1}, "it has the key 01: must be an integer"),
    (dict[int, int], {"\u0661": 1}, "it has the key"),
    (Model, {"count": -1}, "a Model whose fields do not go together"),
    (Model, {"count": 1, "x": 1}, "it has fields missing: none; unknown: x"),
    (Inner, {"name": "a"}, "it has fields missing: number; unknown: none"),
    (Inner, {"name": "a", "number": 1, **{f"n{i}": 1 for i in range(9)}}, "unknown: n0, n1, n2 and 6 more"),
    (
        Outer,
        {"inner": None, "many": [{"name": "a", "number": 0.5}], "named": {}, "state": 3},
        "it.many.0.number is a number: must be",
    ),
    (Tensor, ["float32"], "it is a list: must be type and shape of a tensor"),
    (Tensor, ["float128", [1]], "it has a type that no tensor here has"),
    (Tensor, ["float32", [True]], "it has a dimension that is no number of elements"),
]


@pytest.mark.parametrize(("annotation", "value", "told"), REFUSED, ids=[f"{number}" for number in range(len(REFUSED))])
def test_what_a_type_does_not_say_is_refused_with_its_place(annotation, value, told):
    with pytest.raises(ValueError) as refused:
        converter_of(annotation).read(value, "it", lambda spec, as_array: spec)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        *((int, value) for value in (True, 0.5, "1", 2**63)),
        *((float, value) for value in (True, "1", None)),
        (bool, 1),
        (str, b"a"),
        (tuple[int, ...], [1]),
        (tuple[int, int], (1,)),
        (dict[str, int], {1: 1}),
        (dict[int, int], {True: 1}),
        (Inner, Model(count=1)),
        (Inner | None, 3),
        (Literal["a"], "b"),
        (Tensor, np.zeros(1)),
        (NDArray[Any], torch.zeros(1)),
    ],
)
def test_a_value_of_another_type_does_not_go_out(annotation, value):
    with pytest.raises(TypeError):
        converter_of(annotation).write(value, "it", [])


@pytest.mark.parametrize(
    "annotation", [object, Any, set[int], dict[float, int], bytes, float | str, Inner | Model, Literal[b"a"]]
)
def test_a_type_that_cannot_be_told_from_json_is_refused_when_it_is_declared(annotation):
    with pytest.raises(TypeError, match="cannot travel"):
        converter_of(annotation)


def test_a_record_has_the_fields_of_its_class():
    assert list(record_of(Outer).fields) == ["inner", "many", "named", "state"]
    assert list(record_of(Model).fields) == ["count"]
