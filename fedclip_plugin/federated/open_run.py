"""The server opens the run folder; every rank hears how that went."""

from __future__ import annotations

from typing import Any

from fedclip_plugin.errors import FedClipError
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.runs import RunFolder
from fedclip_plugin.runs.provenance import recipe_text

_SPACE_PER_ROUND = 8 * 2**20


def open_run(comm: Any, folder: RunFolder, recipe: Recipe, resume: bool) -> int:
    """Prepare the run folder on rank 0.

    Parameters
    ----------
    comm
        MPI communicator; every rank calls this.
    folder
        The run folder; only rank 0 touches it.
    recipe
        The checked recipe.
    resume
        Whether rounds that are there may be continued.

    Returns
    -------
    int
        Rounds that are complete already; 0 for a fresh run.

    Raises
    ------
    FedClipError
        On every rank, when the folder cannot be used.
    """
    outcome: int | FedClipError = 0
    if comm.Get_rank() == 0:
        try:
            text, digest = recipe_text(recipe), recipe.digest()
            last = folder.last_complete() if folder.check(text, digest, resume) else None
            folder.prepare(text, digest, _space_needed(recipe), resume)
            outcome = last["round"] if last else 0
        except FedClipError as error:
            outcome = error
    outcome = comm.bcast(outcome, root=0)
    if isinstance(outcome, FedClipError):
        raise outcome
    return outcome


def _space_needed(recipe: Recipe) -> int:
    """Return the free disk space that a run asks for, in bytes: the adapters that it keeps, generously."""
    return (recipe.fedclip_args.keep_rounds + 3) * _SPACE_PER_ROUND
