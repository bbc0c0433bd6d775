"""FedML's messages, from its own class to what travels and back: the class itself stays inside the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedml.core.distributed.communication.message import Message
from fedml.cross_silo.client.message_define import MyMessage

from fedclip_plugin.errors import FederationError
from fedclip_plugin.federated.messages.message_format import FEDML_MESSAGES, MODEL, RECEIVER, SENDER
from fedclip_plugin.federated.messages.packing.packed_message import (
    Announced,
    ExpectedKind,
    PackedMessage,
    UnexpectedTensors,
    pack,
    read_header,
)
from fedclip_plugin.federated.messages.packing.tensor_layouts import NO_TENSORS, TensorLayout
from fedclip_plugin.text import told

_BY_NUMBER = {each.number: each for each in FEDML_MESSAGES}
_BY_KIND = {each.kind: each for each in FEDML_MESSAGES}

Layouts = Mapping[int, Sequence[TensorLayout]]
"""By FedML's number of a message: what its tensors may be, their names without ``model_params``."""


def expected_kinds(from_silos: bool, layouts: Layouts) -> dict[str, ExpectedKind]:
    """Return what the server expects from silos, or a silo from the server.

    Unexpected tensors of silos are dropped, those of the server end the job: a silo has nothing else to go on with.
    """
    return {
        each.kind: ExpectedKind(each.record, layouts.get(each.number, NO_TENSORS), from_silos and MODEL in each.params)
        for each in FEDML_MESSAGES
        if each.from_silo is from_silos
    }


def model_layout(layout: TensorLayout) -> TensorLayout:
    """Return a layout of parameters as that of a message."""
    return TensorLayout(layout.rules, f"{MODEL}.")


def encode(message: Message) -> PackedMessage:
    """Return a message as it travels; a TypeError when it is none of :data:`FEDML_MESSAGES`."""
    params = dict(message.get_params())
    params.pop(MyMessage.MSG_ARG_KEY_CLIENT_OS, None)  # FedML would tell a silo's operating system
    number = params.pop(Message.MSG_ARG_KEY_TYPE)
    if number not in _BY_NUMBER:
        raise TypeError(f"FedML's message of type {number} does not travel here")
    own = _BY_NUMBER[number]
    return pack(own.kind, own.record, params)


def announced(header: bytes, expected: Mapping[str, ExpectedKind], source: int, name: str, rank: int) -> Announced:
    """Return what a header from rank ``source`` announces to rank ``rank``.

    Raises
    ------
    FederationError
        When it is no message, not one that is expected, of another sender, or for somebody else; with the ``name`` of
        who sent it.
    """
    try:
        found = read_header(header, expected)
    except ValueError as error:
        raise no_message(name, error) from error
    claimed = found.values()
    if claimed[SENDER] != source:
        raise FederationError(f"{name} sent a message in the name of rank {claimed[SENDER]}; it is rank {source}")
    if claimed[RECEIVER] != rank:
        raise FederationError(f"{name} sent rank {rank} a message for rank {claimed[RECEIVER]}")
    return found


def decode(found: Announced, contents: Sequence[memoryview]) -> Message:
    """Return the message that was announced; its tensors share the memory of ``contents``.

    Tensors that were not those expected are not in it: an :class:`UnexpectedTensors` stands there.
    """
    values = dict(found.values(() if found.unexpected else contents))
    message = Message(_BY_KIND[found.kind].number, values.pop(SENDER), values.pop(RECEIVER))
    if found.unexpected:
        values[MODEL] = UnexpectedTensors(found.unexpected)
    for key, value in values.items():
        message.add_params(key, value)
    return message


def no_message(name: str, why: object) -> FederationError:
    """Return the error for bytes that are not what is expected."""
    return FederationError(f"{name} sent bytes that are no message: {told(str(why), 200)}")
