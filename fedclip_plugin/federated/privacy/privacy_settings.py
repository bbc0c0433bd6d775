"""What a recipe says of differential privacy, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from fedclip_plugin.federated.privacy.accountant import noise_multiplier_for
from fedclip_plugin.recipe import Recipe
from fedclip_plugin.recipe.schema.fedclip import DP_CLIP, DP_DELTA


@dataclass(frozen=True)
class PrivacySettings:
    """Differential privacy of each training image of a silo; one of the first two is given at least."""

    target_epsilon: float | None
    noise_multiplier: float | None
    delta: float = DP_DELTA
    clip: float = DP_CLIP

    @classmethod
    def of(cls, recipe: Recipe) -> Self | None:
        """Take them from a checked recipe; None where it does not ask for it."""
        own = recipe.fedclip_args
        return cls(own.dp_target_epsilon, own.dp_noise_multiplier, own.delta, own.clip) if own.private else None

    def multiplier(self, rate: float, steps: int, rounds: int) -> float:
        """Return the noise multiplier: that of the recipe, or the one by which the target just lasts for all rounds."""
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        assert self.target_epsilon is not None, "one of the two is given"
        return noise_multiplier_for(self.target_epsilon, self.delta, rate, steps, rounds)
