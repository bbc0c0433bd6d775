"""Whether a run can begin: one recipe, memory on every machine, room on the server's disk; every rank hears of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedclip_plugin.backbone import locate_backbone
from fedclip_plugin.errors import BackboneError, FedClipError, MemoryShortageError
from fedclip_plugin.federated.managers.watchdog import together
from fedclip_plugin.federated.members import Members, last_part
from fedclip_plugin.federated.messages.exchange import Exchange
from fedclip_plugin.federated.startup.memory_check import RankMemory, require_memory_of, require_memory_of_process
from fedclip_plugin.federated.startup.memory_estimate import footprint, update_bytes
from fedclip_plugin.federated.startup.rank_status import exchange_status, go_on, require_one_recipe
from fedclip_plugin.federated.startup.start_messages import GoOn, Opened, Present, Room, fault_kind
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.runs.provenance import recipe_text
from fedclip_plugin.trust.egress import sends_through_egress

_OTHER_FILES = 16 * 2**20
"""Bytes for logs, metrics, class features and a report."""

_LINKED_ROUNDS = 3
"""Rounds on disk besides the newest ones: best, final, and the one that is being written."""

_COPIES = 3
"""Copies of adapters where there are no links: best, final, and the one that is being written."""

_STATE_ROUNDS = 3
"""Rounds of ``state/`` on disk at once: the last complete one, the one after it, and one that is being written."""

_MOMENTS = {"adam": 2, "sgd": 1}
"""Of the server's optimisers that remember: tensors for each of the adapter's."""


def open_run(
    comm: Any,
    folder: RunFolder,
    recipe: Recipe,
    resume: bool,
    fault: FedClipError | None = None,
    members: Members | None = None,
) -> Opened:
    """Compare what the run takes with what the hosts have, and prepare the run folder on rank 0; every rank calls this.

    Return which rounds are complete already; 0 for a fresh run. Every rank raises a FedClipError when a rank has a
    ``fault``, recipes differ, a machine has too little memory, or the folder cannot be used. ``members`` are the silos
    that take part; without it all.
    """
    members = members or Members.of(recipe)
    named = () if recipe.simulated else recipe.silo_names() or ()
    silos = members.of_those_there(named) if named else ()
    limit = recipe.fedclip_args.start_timeout
    names = ["server", *silos, *(f"rank {rank}" for rank in range(len(silos) + 1, comm.Get_size()))]

    def _same_recipe(cards: list[Present]) -> list[GoOn]:
        """Let all go on that are of one recipe."""
        require_one_recipe(cards, names)
        return go_on(cards)

    present = Present(recipe=recipe.job_digest()) if fault is None else Present(fault=fault_kind(fault))
    exchange_status(comm, present, names, limit, _same_recipe, fault, GoOn)
    backbone, card, shortage = _backbone(recipe), Room(), None
    try:
        ranks = _ranks_here(comm, limit)
        if backbone is not None and ranks:  # one rank speaks for a machine
            require_memory_of(footprint(recipe, backbone, logged=sends_through_egress()), ranks)
    except MemoryShortageError as error:
        card, shortage = Room(fault=fault_kind(error), needed=error.needed, there=error.there), error

    def _opened(cards: list[Room]) -> list[Opened]:
        """Make the folder ready, now that every machine has the memory."""
        done = _prepare(folder, recipe, resume, backbone)
        if recipe.simulated:
            return [Opened(done, done)] * len(cards)
        records = folder.rounds() if done else []
        return [Opened(done, done), *(Opened(done, last_part(records, index)) for index in members.present)]

    return exchange_status(comm, card, names, limit, _opened, shortage, Opened)


def open_run_here(folder: RunFolder, recipe: Recipe, resume: bool) -> int:
    """Do what :func:`open_run` does where all ranks are this process."""
    backbone = _backbone(recipe)
    if backbone is not None:
        require_memory_of_process(footprint(recipe, backbone))
    return _prepare(folder, recipe, resume, backbone)


def _ranks_here(comm: Any, limit: float) -> list[RankMemory]:
    """Return what the ranks on this machine say of their memory to the first one there; to the others nothing.

    Every rank calls this. MPI knows who is on one machine: no rank says where it is.
    """
    from mpi4py import MPI

    who = f"rank {comm.Get_rank()}, before round 1"
    with together(comm, who, "the count of memory", limit):
        here = comm.Split_type(MPI.COMM_TYPE_SHARED)
    own, names = RankMemory.here(comm.Get_rank() == 0), [f"rank {rank} of a machine" for rank in range(here.Get_size())]
    exchange = Exchange(here, names, limit, "before round 1")
    if here.Get_rank() == 0:
        ranks = [own, *exchange.from_silos(RankMemory)]
    else:
        exchange.to_server(own)
        ranks = []
    here.Free()
    return ranks


def _prepare(folder: RunFolder, recipe: Recipe, resume: bool, backbone: Path | None) -> int:
    """Claim the folder, make it ready where folder and disk allow it, and return the rounds that are complete."""
    folder.claim()
    try:
        text, digest, needed = recipe_text(recipe), recipe.digest(), _OTHER_FILES
        records = folder.check(text, digest, resume)
        folder.require_rounds(records, recipe.train_args.comm_round)
        last = folder.last_complete() if records else None
        if backbone is not None:
            update = update_bytes(recipe, backbone)
            copies = 0 if folder.has_links() else _COPIES * update
            needed += max(0, copies + adapter_space(recipe, update) - _held_on_disk(folder))
        folder.prepare(text, digest, needed, resume)
    except FedClipError:
        folder.release()
        raise
    return last.round if last else 0


def adapter_space(recipe: Recipe, update: int) -> int:
    """Return the bytes of disk that the server's adapters, of ``update`` bytes, and states take at most."""
    settings = recipe.fedclip_args
    remembers = settings.server_optimizer == "adam" or settings.server_momentum > 0
    states = (settings.codec != "none") + remembers * _MOMENTS.get(settings.server_optimizer, 0)
    return update * (settings.keep_rounds + _LINKED_ROUNDS + _STATE_ROUNDS * states)


def _backbone(recipe: Recipe) -> Path | None:
    """Return the backbone's folder; None where there is none, of which the ranks tell when they load it."""
    try:
        return locate_backbone(recipe.fedclip_args.backbone)
    except BackboneError:
        return None


def _held_on_disk(folder: RunFolder) -> int:
    """Return the bytes of the adapters and states that are there, which a run that goes on replaces by and by."""
    places = (folder.adapters, folder.state)
    return sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())
