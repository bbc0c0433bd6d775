"""The table from a method's name to its module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from fedclip_plugin.adapters.attention_gate import AttentionGate
from fedclip_plugin.adapters.clip_adapter import ClipAdapter
from fedclip_plugin.adapters.sigmoid_gate import SigmoidGate
from fedclip_plugin.errors import AdapterFileError
from fedclip_plugin.runs import SavedAdapter

ADAPTERS: Mapping[str, Callable[[int, torch.Generator | None, torch.dtype], nn.Module]] = {
    "fedclip": AttentionGate,
    "sigmoid_gate": SigmoidGate,
    "clip_adapter": ClipAdapter,
}


def create_adapter(method: str, feature_dim: int, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Build a method's adapter with weights that depend on ``seed`` alone.

    Parameters
    ----------
    method
        A name in :data:`ADAPTERS`.
    feature_dim
        Width d of the image features.
    seed
        The recipe's ``random_seed``.
    dtype
        Of the parameters.

    Raises
    ------
    KeyError
        When no method has that name; recipes are checked against the same names beforehand.
    """
    return ADAPTERS[method](feature_dim, torch.Generator().manual_seed(seed), dtype)


def restore_adapter(saved: SavedAdapter) -> nn.Module:
    """Build the module of a saved adapter and load its parameters.

    Raises
    ------
    AdapterFileError
        When the method is unknown here, or a tensor's name or shape is not the method's.
    """
    if saved.method not in ADAPTERS:
        raise AdapterFileError(
            f"adapter of method {saved.method!r}; this version knows {', '.join(ADAPTERS)}: update fedclip-plugin"
        )
    adapter = create_adapter(saved.method, saved.feature_dim, seed=0)
    try:
        adapter.load_state_dict(to_tensors(saved.tensors))
    except RuntimeError as error:
        raise AdapterFileError(f"adapter does not fit method {saved.method!r}: {error}") from error
    return adapter


def to_tensors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Return torch copies of named arrays."""
    return {name: torch.tensor(array) for name, array in arrays.items()}
