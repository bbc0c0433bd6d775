"""Whether a silo's machine has the keys that a recipe with secure sums needs, before it encodes anything."""

from __future__ import annotations

from fedclip_plugin.recipe import Recipe
from fedclip_plugin.trust.silo_keys import keys_folder, load_identity, require_roster


def require_keys(recipe: Recipe, silo: str) -> None:
    """Refuse a silo's part in secure sums where its machine has not the keys; without secure sums do nothing.

    Raises
    ------
    SiloKeysError
        Key or roster cannot be used, or do not do for the recipe's silos.
    """
    if recipe.fedclip_args.secure_sums:
        require_roster(load_identity(keys_folder(), silo), recipe.silo_names() or ())
