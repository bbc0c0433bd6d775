"""Messages come back as they were sent, tensors as plain arrays on the way."""

import pickle
from collections import OrderedDict

import pytest
import torch
from fedml.core.distributed.communication.message import Message

from fedclip_plugin.federated.messages import REPORT, SiloReport
from fedclip_plugin.federated.task import Score
from fedclip_plugin.federated.transport import decode, encode

PARAMS = Message.MSG_ARG_KEY_MODEL_PARAMS


def test_an_adapter_travels_bit_by_bit_and_in_order():
    tensors = OrderedDict(b=torch.randn(3, 4), a=torch.randn(5).double(), half=torch.randn(2).bfloat16())
    message = Message(3, 1, 0)
    message.add_params(PARAMS, tensors)
    message.add_params(REPORT, report := SiloReport("art", 2, Score(1, 2), Score(3, 4), train_loss=0.1))
    back = decode(encode(message))
    assert (back.get_type(), back.get_sender_id(), back.get_receiver_id()) == (3, 1, 0)
    assert list(back.get(PARAMS)) == ["b", "a", "half"]
    for name, tensor in tensors.items():
        assert torch.equal(back.get(PARAMS)[name], tensor)
        assert back.get(PARAMS)[name].dtype == tensor.dtype
    assert back.get(REPORT) == report
    assert message.get(PARAMS) is tensors, "the message itself is left alone"


def test_a_received_adapter_can_be_written_to():
    message = Message(3, 1, 0)
    message.add_params(PARAMS, OrderedDict(a=torch.zeros(3)))
    back = decode(encode(message)).get(PARAMS)["a"]
    back += 1
    assert torch.equal(back, torch.ones(3))


@pytest.mark.parametrize("count", [1, 525_312])
def test_a_message_is_hardly_larger_than_its_tensors(count):
    message = Message(3, 1, 0)
    message.add_params(PARAMS, OrderedDict(a=torch.zeros(count)))
    assert 4 * count < len(encode(message)) < 4 * count + 1000


def test_a_message_without_an_adapter_travels_too():
    message = Message(5, 2, 0)
    message.add_params("client_status", "ONLINE")
    assert decode(encode(message)).get("client_status") == "ONLINE"
    assert isinstance(pickle.loads(encode(message)), Message)
