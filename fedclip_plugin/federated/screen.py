"""Is what a silo sent an update of this adapter? The server asks before it averages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def fault(samples: Any, update: Any, template: Mapping[str, Tensor]) -> str | None:
    """Return what is wrong with an update, None when it can be averaged.

    Parameters
    ----------
    samples
        How many training images the silo says are behind it.
    update
        What the silo sent.
    template
        The global adapter: the names, shapes and types that an update must have.
    """
    if not isinstance(samples, int) or samples < 1:
        return f"{samples!r} training images instead of a number of them"
    if not isinstance(update, Mapping):
        return f"a {type(update).__name__} instead of named tensors"
    missing, unknown = sorted(template.keys() - update.keys()), sorted(map(str, update.keys() - template.keys()))
    if missing or unknown:
        return f"tensors missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
    for name, expected in template.items():
        tensor = update[name]
        if not isinstance(tensor, Tensor):
            return f"{name} is a {type(tensor).__name__}, not a tensor"
        if tensor.shape != expected.shape or tensor.dtype != expected.dtype:
            return f"{name} is {_look(tensor)}, expected {_look(expected)}"
        wide = torch.promote_types(tensor.dtype, torch.float32)  # a sum of float16 soon leaves its range
        if not bool(torch.isfinite(tensor.sum(dtype=wide))):  # twenty times faster than looking at every element
            return f"{name} holds NaN or infinite values"
    return None


def _look(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
