"""Is what a silo sent an update of this adapter? The server asks before it averages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from heapq import nsmallest
from typing import Any

import torch
from torch import Tensor

from fedclip_plugin.federated.messages.packing.packed_message import UnexpectedTensors
from fedclip_plugin.text import told

_NAMED = 3
"""How many names a sentence tells; an update may have a million."""


def update_fault(samples: Any, update: Any, template: Mapping[str, Tensor], images: int | None = None) -> str | None:
    """Return what is wrong with an update, None when it can be averaged.

    The ``template`` has the names, shapes and types that it must have. ``images`` is how many training images the silo
    has by what it said at the start, None where that is not known.
    """
    if type(samples) is not int or samples < 1:
        return f"{told(samples)} training images instead of a number of them"
    if images is not None and samples != images:
        return f"{told(samples)} training images instead of the {images} of the start"
    if isinstance(update, UnexpectedTensors):
        return update.reason
    if type(update) not in (dict, OrderedDict):
        return f"a {told(type(update).__name__)} instead of named tensors"
    missing, unknown = template.keys() - update.keys(), update.keys() - template.keys()
    if missing or unknown:
        return f"tensors missing: {_names(missing)}; unknown: {_names(unknown)}"
    for name, expected in template.items():
        tensor = update[name]
        if type(tensor) is not Tensor:
            return f"{name} is a {told(type(tensor).__name__)}, not a tensor"
        if _look(tensor) != _look(expected):
            return f"{name} is {told(_look(tensor))}, expected {_look(expected)}"
        wide = torch.promote_types(tensor.dtype, torch.float32)  # a sum of float16 soon leaves its range
        if not bool(torch.isfinite(tensor.sum(dtype=wide))):  # twenty times faster than looking at every element
            return f"{name} holds NaN or infinite values"
    return None


def _names(names: Iterable[object]) -> str:
    """Return some names, cut and escaped, and how many more there are."""
    found = [name if isinstance(name, str) else told(name) for name in names]
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    return (", ".join(map(told, nsmallest(_NAMED, found))) or "none") + more


def _look(tensor: Tensor) -> str:
    """Return what a tensor is like: two of one look can be added, element by element."""
    kind = "" if tensor.layout == torch.strided else f"{str(tensor.layout).removeprefix('torch.')} "
    place = "" if tensor.device.type != "meta" else " without values"
    return f"{kind}{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}{place}"
