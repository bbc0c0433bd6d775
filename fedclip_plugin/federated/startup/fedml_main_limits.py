"""What a recipe cannot ask for in a main of the user's own, where FedML's plain runner is at work."""

from __future__ import annotations

from fedclip_plugin.errors import RecipeError
from fedclip_plugin.recipe import Recipe

_ONLY_LAUNCHED = {
    "client_num_per_round": "every silo takes part in every round (FedML would mix up silos and ranks)",
    "codec": "adapters travel as they are",
    "federation": "every silo goes on from the average",
    "personal_epochs": "silos are done when the last average arrives",
    "enable_tensorboard": "nobody collects the silos' metrics",
}
"""Keys that our own runner, its messages or its console fulfil, and what happens without them."""


def require_plain(recipe: Recipe) -> None:
    """Refuse a recipe that FedML's plain runner would silently follow only in part.

    ``proximal_mu``, ``server_optimizer`` and ``augmented_views`` work there: trainer, aggregator and features do them.

    Raises
    ------
    RecipeError
        Names every such key, with the reason.
    """
    asked = recipe.flat()
    works = {
        "client_num_per_round": asked["client_num_in_total"],
        "codec": "none",
        "federation": "federated",
        "personal_epochs": 0,
        "enable_tensorboard": False,
    }
    faults = [
        f"{key} = {asked[key]}: {reason}; set it to {works[key]}"
        for key, reason in _ONLY_LAUNCHED.items()
        if asked[key] != works[key]
    ]
    if faults:
        raise RecipeError(
            "\n  ".join(["a main of your own cannot do all of this recipe; start it with fedclip launch, or", *faults])
        )
