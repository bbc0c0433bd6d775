"""What of an adapter travels between silos and server."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedclip_edge.terminal import printable

_NAMED = 5


def parameters_of(adapter: nn.Module) -> OrderedDict[str, Tensor]:
    """Return the trained parameters by name, on the CPU; on a CPU they share the adapter's memory.

    An OrderedDict, since FedML takes a plain dictionary for one model per client.
    """
    named = adapter.named_parameters()
    return OrderedDict((name, parameter.detach().cpu()) for name, parameter in named if parameter.requires_grad)


def load_parameters(adapter: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy into the adapter exactly the parameters that :func:`parameters_of` names, from any device.

    A name or a shape that differs is a ValueError; nothing is copied then.
    """
    require_parameters(adapter, tensors)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(tensors[name])


def require_parameters(adapter: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose names or shapes are not those of the adapter's trained parameters, with a ValueError."""
    own = {name: parameter for name, parameter in adapter.named_parameters() if parameter.requires_grad}
    faults = sorted(map(printable, own.keys() ^ tensors.keys())) or [
        f"{name} {list(tensors[name].shape)} instead of {list(parameter.shape)}"
        for name, parameter in own.items()
        if tensors[name].shape != parameter.shape
    ]
    if faults:
        more = f" and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise ValueError(f"parameters that do not match the method's: {', '.join(faults[:_NAMED])}{more}")


def to_tensors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
    """Return torch copies of named arrays."""
    return {name: torch.tensor(array) for name, array in arrays.items()}
