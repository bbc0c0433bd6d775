"""FedML's messages of a federation as we use them: which there are, and what each may hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from fedml.cross_silo.server.message_define import MyMessage
from torch import Tensor

from fedclip_plugin.federated.messages.added_fields import (
    CHOSEN,
    COMPLETE,
    LAST,
    REPORT,
    ROUND,
    TRAIN,
    TRY,
    WHOLE,
    SiloReport,
)
from fedclip_plugin.federated.messages.packing.typed_values import Record, converter_of
from fedclip_plugin.federated.secure_sums.hello import HELLO, MEMBERS, Hello, RoundMembers

SENDER, RECEIVER, MODEL = (
    MyMessage.MSG_ARG_KEY_SENDER,
    MyMessage.MSG_ARG_KEY_RECEIVER,
    MyMessage.MSG_ARG_KEY_MODEL_PARAMS,
)

_ENVELOPE = {
    "msg_type": "FedML's number of the message.",
    "sender, receiver": "Ranks.",
}
_MODEL = (
    "The adapter: its tensors by name, as the recipe's `codec` has them; of `ridge`, `ncm` and `gda` sums, see above."
)
_UPDATE = (
    f"{_MODEL} With `secure_sums` both are masked, whole numbers that mean nothing by themselves. In the last round "
    "with `wise`, how many validation images each interpolation labels rightly."
)
_REPORT = "A `SiloReport`, see below; nothing before the first adapter has come."
_PLACE = "The silo's place among those that are there, counted from 0."


class Param(NamedTuple):
    """One parameter of a message.

    Attributes
    ----------
    type
        Its annotation.
    words
        What it is.
    optional
        Whether the message may lack it.
    """

    type: Any
    words: str
    optional: bool = False


@dataclass(frozen=True)
class FedMLMessage:
    """One of FedML's messages."""

    number: int  # fedML's own of its type
    kind: str  # what it is called on its way
    title: str  # what it is for
    from_silo: bool  # else the server sends it
    params: Mapping[str, Param]  # beside the envelope

    def keys(self) -> set[str]:
        """Return the keys that the message may have."""
        return {key for keys in (*_ENVELOPE, *self.params) for key in keys.split(", ")}

    def fields(self) -> dict[str, str]:
        """Return keys and what is behind them, the envelope's first; keys that mean the same are in one."""
        return _ENVELOPE | {key: param.words for key, param in self.params.items()}

    @cached_property
    def record(self) -> Record:
        """What travels of it: the parameters, and the ranks of the envelope."""
        types = {SENDER: int, RECEIVER: int} | {key: param.type for key, param in self.params.items()}
        optional = frozenset(key for key, param in self.params.items() if param.optional)
        return Record({key: converter_of(annotation) for key, annotation in types.items()}, optional)


_TENSORS = OrderedDict[str, Tensor]

_ADAPTER = {
    MODEL: Param(_TENSORS, _MODEL),
    MyMessage.MSG_ARG_KEY_CLIENT_INDEX: Param(str, _PLACE),
    ROUND: Param(int, "The round that begins."),
    TRAIN: Param(bool, "Whether the silo trains in it; else it only evaluates."),
    COMPLETE: Param(int, "The last complete round."),
    LAST: Param(bool, "Only with differential privacy: that the run ends here, as no silo may train any more.", True),
    WHOLE: Param(
        bool,
        "Only with `round_grace`, to a silo that was late: that these are the parameters, whatever the `codec`.",
        True,
    ),
    TRY: Param(
        bool, "Only of closed-form methods: that the tensors are solutions to be tried, and not an adapter.", True
    ),
    CHOSEN: Param(
        tuple[float, float],
        "Only with `personal_statistics`, beside the last adapter: the penalty and the mix that were chosen.",
        True,
    ),
    MEMBERS: Param(
        RoundMembers, "Only with `secure_sums`, to a silo that trains in the round: with whom; see below.", True
    ),
}
_ANSWER = {REPORT: Param(SiloReport | None, _REPORT)}
_SILO = {MyMessage.MSG_ARG_KEY_CLIENT_INDEX: Param(str, _PLACE)}

FEDML_MESSAGES = (
    FedMLMessage(
        MyMessage.MSG_TYPE_C2S_CLIENT_STATUS,
        "status",
        "A silo is there, or says goodbye",
        True,
        {
            MyMessage.MSG_ARG_KEY_CLIENT_STATUS: Param(Literal["ONLINE", "FINISHED"], "FedML's word for it."),
            HELLO: Param(Hello, "Only with `secure_sums`, of a silo that is there: a `Hello`, see below.", True),
        }
        | _ANSWER,
    ),
    FedMLMessage(
        MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER,
        "update",
        "A silo's update",
        True,
        {
            MODEL: Param(_TENSORS, _UPDATE),
            MyMessage.MSG_ARG_KEY_NUM_SAMPLES: Param(int, "How many images it trained on."),
            ROUND: Param(int, "The round."),
        }
        | _ANSWER,
    ),
    FedMLMessage(
        MyMessage.MSG_TYPE_C2S_SEND_STATS_TO_SERVER,
        "report",
        "A silo that did not train in a round has evaluated",
        True,
        _ANSWER,
    ),
    FedMLMessage(
        MyMessage.MSG_TYPE_S2C_CHECK_CLIENT_STATUS,
        "status question",
        "The server asks whether a silo is there",
        False,
        _SILO,
    ),
    FedMLMessage(MyMessage.MSG_TYPE_S2C_INIT_CONFIG, "first adapter", "The first adapter", False, _ADAPTER),
    FedMLMessage(MyMessage.MSG_TYPE_S2C_SYNC_MODEL_TO_CLIENT, "adapter", "The averaged adapter", False, _ADAPTER),
    FedMLMessage(MyMessage.MSG_TYPE_S2C_FINISH, "end", "The federation is over", False, _SILO),
)
