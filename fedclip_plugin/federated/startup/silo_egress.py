"""What a silo's rank does about its machine's policy when a job begins and ends; no torch before a job does."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fedclip_edge.terminal import printable
from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.backbone.fingerprint import fingerprint
from fedclip_plugin.errors import BackboneError, PolicyError
from fedclip_plugin.federated.members import Members
from fedclip_plugin.federated.rank_output import say
from fedclip_plugin.federated.startup.memory_estimate import sent_bytes
from fedclip_plugin.federated.stop import stop_job
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.trust.egress import Egress, check_here, open_egress
from fedclip_plugin.trust.egress_log import VARIABLE
from fedclip_plugin.trust.policy_check import Asked
from fedclip_plugin.trust.silo_policy import find_policy

logger = logging.getLogger(__name__)


def asked_of(recipe: Recipe, run: str) -> Asked:
    """Return what a recipe asks of this machine as a run of that name; the backbone's weights are hashed once."""
    settings = recipe.fedclip_args
    try:
        folder = locate_backbone(settings.backbone)
        sent = sent_bytes(recipe, folder)
        try:
            known = fingerprint(folder, memory=Path(settings.feature_cache_dir) / "fingerprints.json")
        except OSError:  # a cache that cannot be written, of which the rank will tell
            known = fingerprint(folder)
    except BackboneError:  # of which the rank will tell; a policy that lists backbones refuses it
        return Asked(recipe, run)
    return Asked(recipe, run, known, sent)


@contextmanager
def job_egress(
    comm: Any, recipe: Recipe, run: Path, rank: int, members: Members | None = None
) -> Iterator[PolicyError | None]:
    """Let what a silo's rank sends in a job pass its machine's policy and log, and say at the end what left.

    Gives why the policy refuses the recipe, which the silo's first card is to tell by its kind; None where it does not.
    The server sends through nothing. In a simulation, whose ranks hold everything alike, the recipe is checked alone.

    Parameters
    ----------
    comm
        MPI's communicator; None where this process is all ranks.
    run
        The run folder.
    members
        The silos that take part; without it all.

    Raises
    ------
    PolicyError
        In one process, when the policy refuses the recipe or cannot be used.
    """
    from fedclip_plugin.federated.messages.leaving import current_egress

    if recipe.simulated:
        yield _checked_here(comm, recipe, run.name)
    elif rank == 0:
        yield None
    elif (held := current_egress()) is not None:
        yield _refused(held, recipe)
    else:
        with rank_egress(comm, recipe, run, rank, members) as egress:
            yield None if egress is None else _refused(egress, recipe)


@contextmanager
def rank_egress(
    comm: Any, recipe: Recipe, run: Path, rank: int, members: Members | None = None
) -> Iterator[Egress | None]:
    """Open what a silo's rank sends through, for a block; where the log cannot be written the job ends at once.

    Parameters
    ----------
    run
        The folder of the run, or of a study's results.
    members
        The silos that take part; without it all.
    """
    from fedclip_plugin.federated.messages.leaving import sending_through

    names, number = recipe.silo_names() or (), (members or Members.of(recipe)).number(rank)
    silo = names[number - 1] if number <= len(names) else f"rank {rank}"
    who = f"silo {printable(silo)} (rank {rank})"
    try:
        egress = open_egress(run / "logs", run.name, silo, number, recipe.digest())
    except PolicyError as error:
        stop_job(comm, f"{who}, before round 1", error, error.exit_code)
    if egress is None:
        yield None
        return
    try:
        with sending_through(egress):
            yield egress
    finally:
        told = egress.close()
        if told:
            logger.info("%s", told)
            say(f"fedclip: {who}: {told}")


def require_rest(comm: Any, who: str, done: int, own: int) -> None:
    """End the job where a silo's policy refuses what is left to train; parameters as of :meth:`Egress.require_rest`."""
    from fedclip_plugin.federated.messages.leaving import current_egress

    held = current_egress()
    try:
        if held is not None:
            held.require_rest(done, own)
    except PolicyError as error:
        stop_job(comm, f"{who}, before it goes on after round {done}", error)


def policy_in_force() -> str:
    """Return the SHA-256 of the policy that this process's rank sends under; empty without one."""
    from fedclip_plugin.federated.messages.leaving import current_egress

    held = current_egress()
    return "" if held is None else held.policy_sha256


def plain_fault(rank: int) -> PolicyError | None:
    """Return why a ``main`` of somebody's own cannot run here: FedML's plain runner sends past policy and log."""
    try:
        place = find_policy() if rank else None
    except PolicyError as error:
        return error
    if place is None and (rank == 0 or VARIABLE not in os.environ):
        return None
    what = f"the silo policy {place}" if place else f"an egress log ({VARIABLE})"
    return PolicyError(f"this machine has {what}, which FedML's plain runner passes by: start it with fedclip launch")


def _checked_here(comm: Any, recipe: Recipe, run: str) -> PolicyError | None:
    try:
        check_here(partial(asked_of, recipe, run))
    except PolicyError as error:
        if comm is None:
            raise
        return error
    return None


def _refused(egress: Egress, recipe: Recipe) -> PolicyError | None:
    try:
        egress.check_recipe(asked_of(recipe, egress.run))
    except PolicyError as error:
        return error
    return None
