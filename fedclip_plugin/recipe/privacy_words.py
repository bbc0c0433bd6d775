"""What a recipe's differential privacy and secure sums come to, in words, for consoles and pages."""

from __future__ import annotations

from fedclip_plugin.methods.registry import METHODS
from fedclip_plugin.recipe.recipe import Recipe


def privacy_words(recipe: Recipe) -> str | None:
    """Return a sentence on the guarantee, the noise and the loss; None for a recipe without differential privacy."""
    own = recipe.fedclip_args
    if not own.private:
        return None
    spent = "epsilon as told" if own.dp_target_epsilon is None else f"epsilon {own.dp_target_epsilon:g} at most"
    noise = f", noise multiplier {own.dp_noise_multiplier:g}" if own.dp_noise_multiplier is not None else ""
    told = f"differential privacy of each training image in its silo: {spent}, delta {own.delta:g}{noise}"
    if METHODS[own.method].sums is not None:
        return f"{told}; noise is on the sums"
    return f"{told}, gradients clipped to {own.clip:g}; the loss is the cross entropy of each image over all classes"


def secure_sums_words(recipe: Recipe) -> str | None:
    """Return a sentence on what the server reads; None for a recipe without secure sums."""
    own = recipe.fedclip_args
    if not own.secure_sums:
        return None
    what = "sums over images" if METHODS[own.method].sums is not None else "updates"
    redo = "; a round may be masked again without silos that are said to be lost (on_missing: redo)"
    return (
        f"secure sums: the server reads the total of the silos' {what} and none by itself"
        f"{redo if own.on_missing == 'redo' else ''}"
    )
