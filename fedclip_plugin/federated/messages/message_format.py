"""FedML's messages of a federation as we use them: which there are, and what each may hold."""

from __future__ import annotations

from dataclasses import dataclass

from fedml.cross_silo.server.message_define import MyMessage

from fedclip_plugin.federated.messages.added_fields import CHOSEN, COMPLETE, LAST, REPORT, ROUND, TRAIN, TRY

_ENVELOPE = {
    "msg_type": "FedML's number of the message.",
    "sender, receiver": "Ranks.",
}
_MODEL = (
    "The adapter: its tensors by name, as the recipe's `codec` has them; of `ridge`, `ncm` and `gda` sums, see above."
)
_UPDATE = f"{_MODEL} In the last round with `wise`, how many validation images each interpolation labels rightly."
_REPORT = "A `SiloReport`, see below; nothing before the first adapter has come."
_INDEX = "Index of the silo, counted from 0."


@dataclass(frozen=True)
class FedMLMessage:
    """One of FedML's messages."""

    kind: int  # fedML's number
    title: str  # what it is for
    from_silo: bool  # else the server sends it
    params: dict[str, str]  # key to what is behind it; keys that mean the same are separated by commas

    def keys(self) -> set[str]:
        """Return the keys that the message may have."""
        return {key for keys in (*_ENVELOPE, *self.params) for key in keys.split(", ")}

    def fields(self) -> dict[str, str]:
        """Return keys and what is behind them, the envelope's first."""
        return _ENVELOPE | self.params


_ADAPTER = {
    MyMessage.MSG_ARG_KEY_MODEL_PARAMS: _MODEL,
    MyMessage.MSG_ARG_KEY_CLIENT_INDEX: _INDEX,
    MyMessage.MSG_ARG_KEY_CLIENT_OS: "FedML's constant `PythonClient`.",
    ROUND: "The round that begins.",
    TRAIN: "Whether the silo trains in it; else it only evaluates.",
    COMPLETE: "The last complete round.",
    LAST: "Only with differential privacy: that the run ends here, as no silo may train any more.",
    TRY: "Only of closed-form methods: that the tensors are solutions to be tried, and not an adapter.",
    CHOSEN: "Only with `personal_statistics`, beside the last adapter: the penalty and the mix that were chosen.",
}

FEDML_MESSAGES = (
    FedMLMessage(
        MyMessage.MSG_TYPE_C2S_CLIENT_STATUS,
        "A silo is there, or says goodbye",
        True,
        {MyMessage.MSG_ARG_KEY_CLIENT_STATUS: "FedML's word for it.", REPORT: _REPORT},
    ),
    FedMLMessage(
        MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER,
        "A silo's update",
        True,
        {
            MyMessage.MSG_ARG_KEY_MODEL_PARAMS: _UPDATE,
            MyMessage.MSG_ARG_KEY_NUM_SAMPLES: "How many images it trained on.",
            ROUND: "The round.",
            REPORT: _REPORT,
        },
    ),
    FedMLMessage(
        MyMessage.MSG_TYPE_C2S_SEND_STATS_TO_SERVER,
        "A silo that did not train in a round has evaluated",
        True,
        {REPORT: _REPORT},
    ),
    FedMLMessage(
        MyMessage.MSG_TYPE_S2C_CHECK_CLIENT_STATUS,
        "The server asks whether a silo is there",
        False,
        {MyMessage.MSG_ARG_KEY_CLIENT_INDEX: _INDEX},
    ),
    FedMLMessage(MyMessage.MSG_TYPE_S2C_INIT_CONFIG, "The first adapter", False, _ADAPTER),
    FedMLMessage(MyMessage.MSG_TYPE_S2C_SYNC_MODEL_TO_CLIENT, "The averaged adapter", False, _ADAPTER),
    FedMLMessage(
        MyMessage.MSG_TYPE_S2C_FINISH,
        "The federation is over",
        False,
        {MyMessage.MSG_ARG_KEY_CLIENT_INDEX: _INDEX},
    ),
)
