"""FedML's messages as silos send them, with all kinds of tensors, and what a receiver of them expects."""

from collections import OrderedDict

import torch
from fedml.core.distributed.communication.message import Message

from fedclip_plugin.federated.messages.added_fields import REPORT, ROUND, SiloReport
from fedclip_plugin.federated.messages.fedml_messages import announced, decode, encode, expected_kinds, model_layout
from fedclip_plugin.federated.messages.packing.tensor_layouts import TensorLayout

PARAMS = Message.MSG_ARG_KEY_MODEL_PARAMS
STATUS, UPDATE = 5, 3

TENSORS = OrderedDict(
    b=torch.randn(3, 4),
    a=torch.randn(5).double(),
    half=torch.randn(2, 3).bfloat16(),
    whole=torch.arange(4, dtype=torch.int8),
    turned=torch.randn(4, 6).T,
    part=torch.randn(9)[3:7],
    scalar=torch.tensor(1.5),
    nothing=torch.empty(0, 7),
    true=torch.tensor([True, False]),
)


def message(note="", rank=0, number=STATUS, **params):
    """Return what a rank says to itself: that it is there, with a report that has a note."""
    made = Message(number, rank, rank)
    made.add_params("client_status", "ONLINE")
    made.add_params(REPORT, SiloReport(note, 0, None, None) if note else None)
    for key, value in params.items():
        made.add_params(key, value)
    return made


def note_of(received):
    """Return the note of a message; None of one with tensors."""
    return None if received.get(REPORT) is None else received.get(REPORT).silo


def with_tensors(tensors, rank=0):
    """Return an update of a rank to itself."""
    made = Message(UPDATE, rank, rank)
    for key, value in {PARAMS: tensors, "num_samples": 3, ROUND: 0, REPORT: None}.items():
        made.add_params(key, value)
    return made


def expecting(*updates):
    """Return what a receiver expects that takes updates like these."""
    return expected_kinds(True, {UPDATE: [model_layout(TensorLayout.like(tensors)) for tensors in updates]})


def packed_contents(packed):
    """Return the memory of a packed message's tensors."""
    return [tensor.memory for tensor in packed.tensors]


def there_and_back(made, *updates):
    """Return a message as its receiver decodes it, from the sender's own memory."""
    packed = encode(made)
    likes = updates or ([made.get(PARAMS)] if made.get(PARAMS) is not None else [{}])
    rank = made.get_sender_id()
    return decode(
        announced(packed.header, expecting(*likes), rank, "it", made.get_receiver_id()), packed_contents(packed)
    )
