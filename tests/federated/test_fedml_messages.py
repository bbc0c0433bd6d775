"""FedML's messages come back as they were sent, tensors without a copy; what is not expected is named and not read."""

import json
import struct
import zlib
from collections import OrderedDict

import numpy as np
import pytest
import torch

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.messages.added_fields import REPORT, SiloReport
from fedclip_plugin.federated.messages.fedml_messages import announced, decode, encode
from fedclip_plugin.federated.messages.packing import packed_message
from fedclip_plugin.federated.messages.packing.packed_message import UnexpectedTensors
from fedclip_plugin.federated.messages.packing.tensor_layouts import TensorLayout, TensorRule, layout_fault
from fedclip_plugin.federated.messages.packing.tensor_memory import TensorSpec, room_for, unpacked
from fedclip_plugin.federated.roles.task import Score
from tests.support.messages import (
    PARAMS,
    TENSORS,
    expecting,
    message,
    note_of,
    packed_contents,
    there_and_back,
    with_tensors,
)


def header(made, change):
    """Return a message's header with other JSON and a checksum that fits."""
    value = json.loads(encode(made).header[12:])
    changed = change(value)
    return sealed(json.dumps(value if changed is None else changed).encode())


def sealed(text):
    return b"fedclip\x02" + struct.pack("<I", zlib.crc32(text)) + text


def open_header(made, *updates):
    return announced(made, expecting(*updates or [{}]), 0, "silo art (rank 1)", 0)


def test_an_adapter_travels_bit_by_bit_and_in_order():
    sent = with_tensors(TENSORS)
    sent.add_params(REPORT, report := SiloReport("art", 2, Score(1, 2), Score(3, 4), train_loss=0.1))
    back = there_and_back(sent)
    assert (back.get_type(), back.get_sender_id(), back.get_receiver_id()) == (3, 0, 0)
    assert list(back.get(PARAMS)) == list(TENSORS)
    assert type(back.get(PARAMS)) is OrderedDict
    for name, tensor in TENSORS.items():
        assert torch.equal(back.get(PARAMS)[name], tensor)
        assert back.get(PARAMS)[name].dtype == tensor.dtype
    assert back.get(REPORT) == report
    assert sent.get(PARAMS) is TENSORS, "the message itself is left alone"


def test_a_trained_parameter_travels_as_a_plain_tensor():
    back = there_and_back(with_tensors(OrderedDict(a=torch.nn.Parameter(torch.ones(2))))).get(PARAMS)["a"]
    assert type(back) is torch.Tensor
    assert not back.requires_grad


def test_neither_end_copies_a_tensor():
    tensor = torch.zeros(5)
    received = there_and_back(with_tensors(OrderedDict(a=tensor))).get(PARAMS)["a"]
    received += 1
    assert torch.equal(tensor, torch.ones(5)), "sender and receiver share the memory"


def test_a_header_announces_the_tensors_before_there_is_memory_for_them():
    packed = encode(with_tensors(TENSORS))
    found = open_header(packed.header, TENSORS)
    assert [spec.nbytes for spec in found.specs] == [content.nbytes for content in packed_contents(packed)]
    assert [room.nbytes for room in room_for(found.specs)] == [spec.nbytes for spec in found.specs]
    assert [spec.name for spec in found.specs] == [f"model_params.{name}" for name in TENSORS]
    assert found.values()[PARAMS]["half"] == TensorSpec("model_params.half", "bfloat16", (2, 3))


@pytest.mark.parametrize("count", [1, 525_312])
def test_a_message_is_hardly_larger_than_its_tensors(count):
    assert 4 * count < len(encode(with_tensors(OrderedDict(a=torch.zeros(count))))) < 4 * count + 1000


def test_a_message_without_an_adapter_is_one_header():
    packed = encode(message("here"))
    assert packed.tensors == ()
    assert (packed.kind, note_of(there_and_back(message("here")))) == ("status", "here")


def test_two_messages_of_one_length_have_other_times_and_losses():
    reports = [
        SiloReport("art", 1, None, None, train_loss=loss, train_seconds=time) for loss, time in ((0.1, 1e-9), (3, 7))
    ]
    assert len({len(encode(message(**{REPORT: report}))) for report in reports}) == 1


def test_contents_go_in_pieces_that_mpi_can_count(monkeypatch):
    monkeypatch.setattr(packed_message, "PIECE_BYTES", 1000)
    packed = encode(with_tensors(OrderedDict(a=torch.zeros(600), b=torch.zeros(3), c=torch.zeros(0))))
    assert [piece.nbytes for piece in packed.pieces()] == [1000, 1000, 400, 12]


def test_what_is_no_message_of_ours_does_not_go_out():
    with pytest.raises(TypeError, match="type 77 does not travel"):
        encode(message(number=77))
    with pytest.raises(TypeError, match="fields missing: none; unknown: host"):
        encode(message(host="h1"))
    assert encode(message(client_os="Linux")).header == encode(message()).header, "FedML adds it; it is left out"
    with pytest.raises(
        ValueError, match=r"model_params\.a is torch\.complex64, and tensors of that type do not travel"
    ):
        encode(with_tensors(OrderedDict(a=torch.zeros(1, dtype=torch.complex64))))


def put(**changes):
    return lambda value: value["value"].update(changes)


def drop(key):
    return lambda value: value["value"].pop(key)


REFUSED = {
    "a field that is missing": (
        lambda v: v["value"].pop("num_samples") and None,
        "it has fields missing: num_samples; unknown: none",
    ),
    "a field too many": (put(more=1), "it has fields missing: none; unknown: more"),
    "text for a number": (put(num_samples="3"), "num_samples is 3: must be an integer of 64 bits"),
    "true for a number": (put(num_samples=True), "num_samples is True: must be an integer of 64 bits"),
    "a fraction": (put(num_samples=3.5), "a number of its header is 3.5: must be an integer, or bits of a double"),
    "NaN": (put(num_samples=float("nan")), "a number of its header is NaN: must be an integer"),
    "a huge number": (put(num_samples=10**30), "a number of its header has 31 digits"),
    "a large number": (put(num_samples=2**63), "num_samples is 9223372036854775808: must be an integer of 64 bits"),
    "a report of another class": (
        put(fedclip_report={"silo": "art"}),
        "fedclip_report has fields missing: epsilon, evaluate_seconds, personal and 7 more",
    ),
    "a report that is a list": (
        put(fedclip_report=[1]),
        "fedclip_report is a list: must be one of: an object, nothing",
    ),
    "another kind": (
        lambda v: v.update(kind="adapter"),
        "it is of kind adapter; expected here: status or update or report",
    ),
    "no kind": (lambda v: v.pop("kind") and None, "it is no object with a kind and a value"),
    "a list": (lambda v: [v], "it is no object with a kind and a value"),
    "no value": (lambda v: v.update(value=None), "it is None: must be an object"),
    "tensors as text": (put(model_params="a"), "model_params is a: must be an object"),
    "a tensor as a number": (put(model_params={"a": 3}), "model_params.a is 3: must be type and shape of a tensor"),
    "a type that is none": (
        put(model_params={"a": ["object", [3]]}),
        "model_params.a has a type that no tensor here has",
    ),
    "a negative size": (put(model_params={"a": ["float32", [-3]]}), "model_params.a has a dimension that is no number"),
    "no sizes": (put(model_params={"a": ["float32", 3]}), "model_params.a has no shape of at most 8 dimensions"),
    "many dimensions": (put(model_params={"a": ["float32", [1] * 9]}), "model_params.a has no shape of at most 8"),
    "immense tensors": (
        put(model_params={"a": ["float32", [2**60, 0]]}),
        "model_params.a has more than 281,474,976,710,656 bytes",
    ),
    "large tensors": (
        put(model_params={"a": ["float32", [2**30]]}),
        "it announces 4,294,967,296 bytes of tensors; here a message has at most 1,048,588",
    ),
}


@pytest.mark.parametrize(("change", "told"), REFUSED.values(), ids=REFUSED)
def test_a_header_that_is_not_expected_is_refused_with_sender_and_rule(change, told):
    tensors = {"a": torch.zeros(3)}
    with pytest.raises(FederationError) as refused:
        open_header(header(with_tensors(tensors), change), tensors)
    assert str(refused.value).startswith(f"silo art (rank 1) sent bytes that are no message: {told}")
    assert str(refused.value).isprintable()


BROKEN = {
    "nothing": (b"", "it does not begin as a message does"),
    "a flipped bit": (encode(message()).header[:-3] + b"!!!", "its header is damaged: the checksum is another one"),
    "a key twice": (sealed(b'{"kind":"status","kind":"status","value":{}}'), "a key of its header stands there twice"),
    "no JSON": (sealed(b"{'kind'}"), "Expecting property name enclosed in double quotes"),
    "no text": (sealed(b'{"\xff"}'), "'utf-8' codec can't decode"),
    "deep": (sealed(b"[" * 100_000), "its header is nested too deeply"),
    "long": (bytes(2**24 + 1), "its header has more than 16,777,216 bytes"),
}


@pytest.mark.parametrize(("made", "told"), BROKEN.values(), ids=BROKEN)
def test_bytes_that_are_no_header_are_refused(made, told):
    with pytest.raises(FederationError, match=f"silo art .rank 1. sent bytes that are no message: {told}"):
        open_header(made)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put(sender=2), "sent a message in the name of rank 2; it is rank 0"),
        (put(receiver=1), "sent rank 0 a message for rank 1"),
    ],
)
def test_a_message_says_who_sent_it_and_for_whom(change, told):
    with pytest.raises(FederationError, match=rf"silo art \(rank 1\) {told}"):
        open_header(header(message(), change))


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"a": torch.zeros(2)}, "a is float32 [2], expected float32 [3]"),
        ({"a": torch.zeros(3).double()}, "a is float64 [3], expected float32 [3]"),
        ({"b": torch.zeros(3)}, "tensors missing: a; unknown: b"),
        ({}, "tensors missing: a; unknown: none"),
    ],
)
def test_tensors_that_are_not_expected_are_thrown_away_and_told_of(sent, told):
    back = there_and_back(with_tensors(OrderedDict(sent)), {"a": torch.zeros(3)})
    assert back.get(PARAMS) == UnexpectedTensors(told)


def test_bytes_of_other_lengths_than_declared_become_no_tensor():
    packed = encode(with_tensors({"a": torch.zeros(3)}))
    found = open_header(packed.header, {"a": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"model_params\.a has 8 bytes, 12 were declared"):
        decode(found, [memoryview(bytearray(8))])
    with pytest.raises(ValueError, match="x has bytes that are neither true nor false"):
        unpacked(TensorSpec("x", "bool", (2,)), memoryview(bytearray(b"\1\2")), as_array=False)
    with pytest.raises(ValueError, match="x is bfloat16, and arrays"):
        unpacked(TensorSpec("x", "bfloat16", (1,)), memoryview(bytearray(2)), as_array=True)


def test_layouts_have_ranges_patterns_and_alternatives():
    trials = TensorLayout(
        {"right": TensorRule("int64", (range(1, 4), 5)), "beside": TensorRule("int8", (), optional=True)}
    )
    jobs = TensorLayout({"jobs.*": TensorRule("int64", (range(3),)), "held.*.w.0": TensorRule("float32", (2,))})
    spec = TensorSpec("right", "int64", (3, 5))
    assert layout_fault([trials, jobs], [spec]) is None
    assert (
        layout_fault([jobs, trials], [spec._replace(shape=(4, 5))]) == "right is int64 [4, 5], expected int64 [1..3, 5]"
    )
    many = [TensorSpec(f"jobs.{number}", "int64", (number,)) for number in range(3)]
    assert layout_fault([trials, jobs], [*many, TensorSpec("held.7.w.0", "float32", (2,))]) is None
    assert layout_fault([jobs], [TensorSpec("jobs.1.2", "int64", (1,))]) == "tensors missing: none; unknown: jobs.1.2"
    assert (
        layout_fault([jobs], [TensorSpec("held.7xw.0", "float32", (2,))])
        == "tensors missing: none; unknown: held.7xw.0"
    )
    assert TensorLayout.like({"a": np.zeros((2, 3), np.int32)}).most_bytes() == 24
