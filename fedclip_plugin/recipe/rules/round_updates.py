"""With how few updates a round of a recipe may close.

``min_silos`` is the name of a key, the recipe's or a policy's. What follows from it, and how few updates an aggregation
takes at all, is called the fewest.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedclip_plugin.recipe.faults import Values
from fedclip_plugin.recipe.rules.secure_sums import FEWEST_IN_A_SUM

_LOWERING = ("client_drop_rate", "dp_target_epsilon")
"""Keys with which a round may close with one update, unless ``min_silos`` says otherwise: they end silos' parts."""

_MIN_SILOS, _SAMPLED = "fedclip_args.min_silos", "train_args.client_num_per_round"


@dataclass(frozen=True)
class FewestUpdates:
    """The fewest updates that a round may close with.

    Attributes
    ----------
    count
        How many.
    key
        The recipe's key that says so.
    lowered_by
        The key of ``fedclip_args`` for which one is enough, as ``key``, ``min_silos``, is not given; else empty.
    """

    count: int
    key: str
    lowered_by: str = ""

    def told(self) -> str:
        """Return it as the end of a sentence."""
        name = self.key.partition(".")[2]
        if name == "secure_sums":
            return f"secure_sums, without min_silos, go on with {self.count}"
        return f"{name}, with {self.lowered_by}, is 1" if self.lowered_by else f"{name} is {self.count}"


def fewest_updates(values: Values) -> FewestUpdates | None:
    """Return with how many updates a round may close; None where the keys that say so are missing or wrong.

    The server holds a round to ``TrainingSettings.min_silos``, which is never less for the silos that it asked; but it
    asks fewer where privacy has ended the part of the others.
    """
    min_silos, sampled = values.get(_MIN_SILOS), values.get(_SAMPLED)
    lowering = [key for key in _LOWERING if values.get(f"fedclip_args.{key}")]
    if min_silos is None and lowering and values.get("fedclip_args.secure_sums"):
        return FewestUpdates(FEWEST_IN_A_SUM, "fedclip_args.secure_sums")
    if min_silos is None and lowering:
        return FewestUpdates(1, _MIN_SILOS, lowering[0])
    if min_silos is not None and (sampled is None or min_silos < sampled):
        return FewestUpdates(min_silos, _MIN_SILOS)
    return None if sampled is None else FewestUpdates(sampled, _SAMPLED)
