"""Whether a silo's machine has the keys that a recipe with secure sums needs, before it encodes anything."""

from __future__ import annotations

from fedclip_plugin.errors import SiloKeysError
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.trust.silo_keys import keys_folder, load_identity, load_roster, require_roster


def require_keys(recipe: Recipe, rank: int, silo: str | None) -> None:
    """Refuse a rank's part in secure sums where its machine has not the keys; do nothing where they are not asked for.

    Parameters
    ----------
    silo
        The rank's name; None where it is not known yet: then the roster alone is looked at.

    Raises
    ------
    SiloKeysError
        Key or roster cannot be used, or do not do for the recipe's silos.
    """
    if not recipe.fedclip_args.secure_sums or rank == 0:
        return
    folder, named = keys_folder(), recipe.silo_names() or ()
    if silo is None:
        load_roster(folder)
    else:
        require_roster(load_identity(folder, silo), named)


def keys_fault(recipe: Recipe, rank: int) -> SiloKeysError | None:
    """Return what :func:`require_keys` raises before a rank's first message; None where nothing is wrong."""
    silos = recipe.silo_names() or ()
    try:
        require_keys(recipe, rank, silos[rank - 1] if 0 < rank <= len(silos) else None)
    except SiloKeysError as error:
        return error
    return None
