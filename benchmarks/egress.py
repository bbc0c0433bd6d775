"""Milliseconds that a silo's policy and egress log add to a round: one update of 525,312 parameters, 2.1 MB."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from benchmarks.setup.ratios import Figure, of_samples
from benchmarks.setup.synthetic import Work, prepared
from benchmarks.setup.workload import PACS_SOURCES, Scale
from fedclip_plugin.federated.fedml_imports import import_fedml
from fedclip_plugin.methods import create_adapter, parameters_of
from fedclip_plugin.recipe import find_recipe, load_recipe
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.trust.egress import Egress
from fedclip_plugin.trust.egress_log import EgressLog
from fedclip_plugin.trust.outgoing import Outgoing
from fedclip_plugin.trust.silo_policy import example_policy, load_policy

TITLE = "egress: an update of 525,312 parameters passes a silo's policy and log"
RECIPE = "pacs/vit_b32_fedclip"
GOAL = 0.05
"""Of what a silo does in a round."""

_WARM = 2


def measure(scale: Scale, work: Path) -> list[Figure]:
    """Return the topic's figures: what a silo does in a round at PACS's counts, and what policy and log add to it.

    They are taken in turn, so that other jobs on the machine weigh on all of them alike.
    """
    import_fedml()
    from fedml.core.distributed.communication.message import Message
    from fedml.cross_silo.client.message_define import MyMessage

    from fedclip_plugin.federated.messages.added_fields import REPORT, ROUND
    from fedclip_plugin.federated.messages.fedml_messages import encode
    from fedclip_plugin.federated.messages.leaving import message_leaves, update_norm

    train, update = _silo(work)
    arrived = OrderedDict((name, tensor.clone()) for name, tensor in update.items())
    message = Message(MyMessage.MSG_TYPE_C2S_SEND_MODEL_TO_SERVER, 1, 0)
    message.add_params(MyMessage.MSG_ARG_KEY_MODEL_PARAMS, update)
    message.add_params(MyMessage.MSG_ARG_KEY_NUM_SAMPLES, 1000)
    message.add_params(ROUND, 0)
    message.add_params(REPORT, None)
    egress = _egress(work)
    steps: dict[str, Callable[[], object]] = {
        "a silo trains and evaluates": train,
        "its message is packed": lambda: encode(message),
        "the norm of its update": lambda: update_norm(update, arrived),
        "packed, held against the policy, hashed and written to disk, with that norm": lambda: message_leaves(
            egress, encode(message), Outgoing("update", round=1, norm=update_norm(update, arrived))
        ),
    }
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(_WARM + scale.rounds):
        for name, act in steps.items():
            began = time.perf_counter()
            act()
            if number >= _WARM:
                samples[name].append(1000 * (time.perf_counter() - began))
    egress.close()
    figures = [of_samples(name, own, "ms") for name, own in samples.items()]
    trained, packed, _, whole = (figure.value for figure in figures)
    ratio = (whole - packed) / (trained + packed)
    return [*figures, Figure("what policy and log add / the silo's round", ratio, "x", scale.rounds, at_most=GOAL)]


def _silo(work: Path) -> tuple[Callable[[], object], OrderedDict[str, Tensor]]:
    """Return what a silo of PACS's art_painting does in a round, and the parameters that it trains."""
    from fedclip_plugin.federated.roles.settings import TrainingSettings
    from fedclip_plugin.federated.roles.trainer import FedClipTrainer

    held, settings = prepared(1, Work(PACS_SOURCES, 1)), TrainingSettings.of(load_recipe(find_recipe(RECIPE)))
    model, splits = create_adapter(held.task.method, held.frozen, 0), held.splits
    assert splits is not None, "a silo has images"
    args = SimpleNamespace(federated_optimizer="FedAvg", round_idx=0)
    trainer = FedClipTrainer(model, args, settings, held.task, held.name, RunFolder(work / "run"))

    def act() -> None:
        """Train an epoch and answer for the images of validation and test."""
        trainer.train(splits, torch.device("cpu"), args)
        for part in (splits.validation, splits.test):
            held.task.answer(model, part)

    return act, parameters_of(model)


def _egress(work: Path) -> Egress:
    work.mkdir(parents=True, exist_ok=True)
    place, log = work / "silo_policy.yaml", work / "egress_1.jsonl"
    place.write_text(example_policy().replace("max_bytes: 500_000_000", "max_bytes: 500_000_000_000"), encoding="utf-8")
    log.unlink(missing_ok=True)
    file = load_policy(place)
    opening = {"run": "benchmark", "silo": "north", "recipe": "0" * 64, "policy": file.sha256}
    return Egress(file, EgressLog(log, opening), "benchmark")
