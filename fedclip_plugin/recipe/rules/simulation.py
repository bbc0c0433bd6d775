"""The rules between the keys of a simulation, and those that keep them out of a cross-silo recipe."""

from __future__ import annotations

from collections.abc import Iterator

from fedclip_plugin.recipe.faults import Fault, Rule, Values, listed
from fedclip_plugin.recipe.rules.data import PARTITIONS
from fedclip_plugin.recipe.schema.fedclip import FedClipArgs

MOST_SILOS = 10_000
"""Silos of a cross-silo federation; each is a process."""

_DRAWN = 2000
"""Rounds whose losses are drawn before the start, each in some 50 us."""

_ONLY_SIMULATED = {"device_args.worker_num": None, "fedclip_args.silos_per_domain": None}
_ONLY_SIMULATED |= {"fedclip_args.client_drop_rate": FedClipArgs.model_fields["client_drop_rate"].default}


def _simulated(values: Values) -> bool:
    return values.get("common_args.training_type") == "simulation"


def _platform(values: Values) -> Iterator[Fault]:
    backend, total = values.get("comm_args.backend"), values.get("train_args.client_num_in_total")
    if "common_args.training_type" not in values or _simulated(values):
        return
    if backend == "sp":
        rule = "one process without MPI: only for training_type: simulation; write MPI"
        yield Fault("comm_args.backend", rule, backend)
    optimizer = values.get("train_args.federated_optimizer")
    if optimizer == "FedAvg_seq":
        rule = "runs in FedML's simulators only and fails in cross_silo; use FedAvg"
        yield Fault("train_args.federated_optimizer", rule, optimizer)
    if total and total > MOST_SILOS:
        rule = f"must be at most {MOST_SILOS}, as each silo is a process; or take training_type: simulation"
        yield Fault("train_args.client_num_in_total", rule, total)
    for where, idle in _ONLY_SIMULATED.items():
        if values.get(where, idle) != idle:
            yield Fault(where, "only for training_type: simulation; leave it out", values[where])


def _workers(values: Values) -> Iterator[Fault]:
    workers, sampled = values.get("device_args.worker_num"), values.get("train_args.client_num_per_round")
    if not _simulated(values) or workers is None:
        return
    where = "device_args.worker_num"
    if values.get("comm_args.backend") == "sp":
        yield Fault(where, "backend: sp is one process; leave it out, or write backend: MPI", workers)
    elif sampled and workers > sampled:
        rule = f"must be at most client_num_per_round, {sampled}: a worker trains whole clients"
        yield Fault(where, rule, workers)


def _lost_updates(values: Values) -> Iterator[Fault]:
    """Refuse losses that are sure to stop the run: what is drawn in a round is known before the start."""
    rate, total = values.get("fedclip_args.client_drop_rate"), values.get("train_args.client_num_in_total")
    count, rounds = values.get("train_args.client_num_per_round"), values.get("train_args.comm_round")
    seed, min_silos = values.get("common_args.random_seed"), values.get("fedclip_args.min_silos") or 1
    if not _simulated(values) or not rate or not total or not count or not rounds or seed is None:
        return
    if min_silos > count or count > total:  # another rule says so
        return
    from fedclip_plugin.recipe.client_sampling import survivors  # numpy only where something is drawn

    drawn = range(1, rounds + 1)[:_DRAWN]
    left = {number: survivors(seed, number - 1, total, count, rate, min_silos) for number in drawn}
    short = {f"{number} ({found} of {count})": found for number, found in left.items() if found < min_silos}
    if short:
        rule = (
            f"leaves {len(short)} of {rounds} rounds fewer updates than min_silos, {min_silos}, by random_seed {seed}: "
            f"round {listed(short, 5)}; lower it or min_silos, or let more clients train in a round "
            "(client_num_per_round)"
        )
        yield Fault("fedclip_args.client_drop_rate", rule, rate)


def _clients_of_domains(values: Values) -> Iterator[Fault]:
    each, layout = values.get("fedclip_args.silos_per_domain"), values.get("fedclip_args.data_layout")
    if each is None or not _simulated(values) or layout is None:
        return
    if layout != "domains":
        rule = f"only for data_layout: domains, not {layout}; leave it out"
        yield Fault("fedclip_args.silos_per_domain", rule, each)
        return
    total = values.get("train_args.client_num_in_total")
    if total and total % each and not values.get("fedclip_args.domains"):  # else their number is known
        rule = f"must be a multiple of silos_per_domain, {each}: domains times {each}"
        yield Fault("train_args.client_num_in_total", rule, total)
    if each > 1 and values.get("data_args.partition_method", "") is None:
        rule = f"is required by silos_per_domain: {PARTITIONS}"
        yield Fault("data_args.partition_method", rule)


def _own_files(values: Values) -> Iterator[Fault]:
    if _simulated(values) and values.get("data_args.data_silo_config"):
        rule = "is for silos on machines of their own; a simulation reads all images: leave it out"
        yield Fault("data_args.data_silo_config", rule)


RULES: tuple[Rule, ...] = (_platform, _workers, _lost_updates, _clients_of_domains, _own_files)
"""On simulations."""
