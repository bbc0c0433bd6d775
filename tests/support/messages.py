"""FedML's messages with all kinds of tensors."""

from collections import OrderedDict

import torch
from fedml.core.distributed.communication.message import Message

PARAMS = Message.MSG_ARG_KEY_MODEL_PARAMS

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


def message(rank=0, **params):
    """Return a message of a rank to itself."""
    made = Message(3, rank, rank)
    for key, value in params.items():
        made.add_params(key, value)
    return made


def with_tensors(tensors):
    """Return a message that carries an adapter."""
    return message(**{PARAMS: tensors})
