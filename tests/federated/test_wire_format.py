"""Messages come back as they were sent, tensors without a copy."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from fedclip_plugin.federated.messages import wire_format
from fedclip_plugin.federated.messages.added_fields import REPORT, SiloReport
from fedclip_plugin.federated.messages.wire_format import PackedMessage, decode, encode
from fedclip_plugin.federated.roles.task import Score
from tests.support.messages import PARAMS, TENSORS, message, with_tensors


def test_an_adapter_travels_bit_by_bit_and_in_order():
    sent = with_tensors(TENSORS)
    sent.add_params(REPORT, report := SiloReport("art", 2, Score(1, 2), Score(3, 4), train_loss=0.1))
    back = decode(encode(sent))
    assert (back.get_type(), back.get_sender_id(), back.get_receiver_id()) == (3, 0, 0)
    assert list(back.get(PARAMS)) == list(TENSORS)
    assert type(back.get(PARAMS)) is OrderedDict
    for name, tensor in TENSORS.items():
        assert torch.equal(back.get(PARAMS)[name], tensor)
        assert back.get(PARAMS)[name].dtype == tensor.dtype
    assert back.get(REPORT) == report
    assert sent.get(PARAMS) is TENSORS, "the message itself is left alone"


def test_tensors_anywhere_in_a_message_and_arrays_travel():
    back = decode(encode(message(state={"m": [torch.ones(2)]}, array=np.arange(3))))
    assert torch.equal(back.get("state")["m"][0], torch.ones(2))
    assert back.get("array").tolist() == [0, 1, 2]


def test_a_trained_parameter_travels_as_a_plain_tensor():
    back = decode(encode(with_tensors(OrderedDict(a=torch.nn.Parameter(torch.ones(2)))))).get(PARAMS)["a"]
    assert type(back) is torch.Tensor
    assert not back.requires_grad


def test_neither_end_copies_a_tensor():
    tensor = torch.zeros(5)
    parcel = encode(with_tensors(OrderedDict(a=tensor)))
    received = decode(parcel).get(PARAMS)["a"]
    received += 1
    assert torch.equal(tensor, torch.ones(5)), "sender, parcel and receiver share the memory"


def test_a_label_announces_the_contents():
    parcel = encode(with_tensors(TENSORS))
    room = PackedMessage.expected(parcel.label, 2**20)
    assert [content.nbytes for content in room.contents] == [content.nbytes for content in parcel.contents]
    assert len(room) == len(parcel)


@pytest.mark.parametrize("count", [1, 525_312])
def test_a_message_is_hardly_larger_than_its_tensors(count):
    assert 4 * count < len(encode(with_tensors(OrderedDict(a=torch.zeros(count))))) < 4 * count + 1000


def test_a_message_without_an_adapter_is_one_label():
    parcel = encode(message(client_status="ONLINE"))
    assert parcel.contents == ()
    assert decode(parcel).get("client_status") == "ONLINE"
    assert PackedMessage.expected(parcel.label, 0).contents == ()


def test_contents_go_in_pieces_that_mpi_can_count(monkeypatch):
    monkeypatch.setattr(wire_format, "PIECE_BYTES", 1000)
    parcel = encode(with_tensors(OrderedDict(a=torch.zeros(600), b=torch.zeros(3), c=torch.zeros(0))))
    assert [piece.nbytes for piece in parcel.pieces()] == [1000, 1000, 400, 12]
