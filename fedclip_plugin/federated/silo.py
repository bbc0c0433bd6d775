"""A silo under FedML: its message handlers, and its link to the trainer."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from fedml.core.distributed.communication.message import Message
from fedml.cross_silo.client.fedml_client_master_manager import ClientMasterManager
from fedml.cross_silo.client.fedml_trainer_dist_adapter import TrainerDistAdapter
from fedml.cross_silo.client.message_define import MyMessage
from torch import Tensor, nn

from fedclip_plugin.features import SiloFeatures
from fedclip_plugin.federated.guard import PATIENCE, Guarded, Watchdog, stop_job
from fedclip_plugin.federated.messages import REPORT, ROUND, TRAIN, SiloReport
from fedclip_plugin.federated.trainer import FedClipTrainer
from fedclip_plugin.federated.transport import CountingTransport

_SERVER = 0
_SERVER_NAME = "the server"


class SiloAdapter(TrainerDistAdapter):
    """Drives the trainer: evaluates each global adapter on arrival and trains on it when the silo was drawn.

    Attributes
    ----------
    round
        Index of the current round, from the server's message.
    report
        What is to be said about the adapter that arrived last.
    """

    def __init__(
        self, args: Any, device: torch.device, model: nn.Module, splits: SiloFeatures, trainer: FedClipTrainer
    ) -> None:
        index = args.rank - 1
        counts, train, test = {index: len(splits.train)}, {index: splits}, {index: splits.test}
        super().__init__(args, device, args.rank, model, len(splits.train), counts, train, test, trainer)
        self.splits, self.silo_trainer = splits, trainer
        self.round = 0
        self.report: SiloReport | None = None

    def update_dataset(self, client_index: int | None = None) -> None:
        """Take the silo's own data; FedML's ``client_index or ...`` would mistake silo 0 for none."""
        self.trainer.update_dataset(self.client_index if client_index is None else int(client_index))

    def update_model(self, model_params: OrderedDict[str, Tensor]) -> None:
        """Load the global adapter and evaluate it on the silo's own validation and test splits."""
        super().update_model(model_params)
        began = time.perf_counter()
        task, adapter = self.silo_trainer.task, self.silo_trainer.model
        parts = {"validation": self.splits.validation, "test": self.splits.test}
        zero_shot = {} if self.report else {name: task.score(None, data) for name, data in parts.items()}
        scores = {name: task.score(adapter, data) for name, data in parts.items()}
        self.report = SiloReport(
            silo=self.silo_trainer.silo,
            round=self.round,
            validation=scores["validation"],
            test=scores["test"],
            zero_shot=zero_shot,
            evaluate_seconds=time.perf_counter() - began,
        )

    def train(self, round_idx: int) -> tuple[OrderedDict[str, Tensor], int]:
        """Train in the server's round (FedML counts a silo's own) and note loss and time."""
        began = time.perf_counter()
        update, samples = super().train(self.round)
        if self.report is not None:
            seconds = time.perf_counter() - began
            self.report = replace(self.report, train_loss=self.silo_trainer.train_loss, train_seconds=seconds)
        return update, samples


class FedClipSilo(Guarded, ClientMasterManager):
    """A silo's message handlers over MPI.

    Parameters
    ----------
    args
        FedML's arguments, with ``round_timeout`` in seconds.
    adapter
        The link to the trainer.
    """

    def __init__(self, args: Any, adapter: SiloAdapter) -> None:
        self._adapter = adapter
        self._watchdog = Watchdog(self._complain)
        super().__init__(args, adapter, args.comm, args.rank, args.worker_num, args.backend)
        self._await_server()

    def where(self) -> str:
        """Return the silo's name, rank and round."""
        return f"silo {self._adapter.silo_trainer.silo} (rank {self.rank}), round {self._adapter.round + 1}"

    def _init_manager(self) -> None:
        self.com_manager = CountingTransport(self.comm, self.rank, self.size)
        self.com_manager.add_observer(self)

    def handle_message_init(self, msg_params: Message) -> None:
        """Receive the first adapter."""
        self._receive(msg_params, super().handle_message_init)

    def handle_message_receive_model_from_server(self, msg_params: Message) -> None:
        """Receive the adapter of a later round, or the last one."""
        self._receive(msg_params, super().handle_message_receive_model_from_server)

    def _receive(self, message: Message, train: Callable[[Message], None]) -> None:
        number = int(message.get(ROUND))
        self._await_server()
        self._adapter.round = self.round_idx = number
        if message.get(TRAIN) or number >= self.num_rounds:
            train(message)
        else:
            self._adapter.update_dataset()
            self._adapter.update_model(message.get(MyMessage.MSG_ARG_KEY_MODEL_PARAMS))
            self.send_message(Message(MyMessage.MSG_TYPE_C2S_SEND_STATS_TO_SERVER, self.client_real_id, _SERVER))

    def send_message(self, message: Message) -> None:
        """Send a message, with the silo's report when it has one."""
        if message.get_type() == MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER:
            message.add_params(ROUND, self._adapter.round)
        message.add_params(REPORT, self._adapter.report)
        super().send_message(message)

    def finish(self) -> None:
        """Leave the federation."""
        self._watchdog.heard(_SERVER_NAME)
        super().finish()

    def _await_server(self) -> None:
        self._watchdog.heard(_SERVER_NAME)
        self._watchdog.expect([_SERVER_NAME], self.args.round_timeout * PATIENCE)

    def _complain(self, late: list[str]) -> None:
        limit = self.args.round_timeout * PATIENCE
        stop_job(self.args.comm, self.where(), f"no word from {late[0]} for {limit:.0f} s (round_timeout)")
