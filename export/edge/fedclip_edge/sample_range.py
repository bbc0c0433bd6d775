"""Which values are black and white in samples of more than 8 bits; needs nothing but Python."""

from __future__ import annotations

import math
from typing import TypeAlias

SampleRange: TypeAlias = tuple[float, float]
"""The values that are black and white."""

RANGE_RULE: str = "two finite numbers [black, white], the first below the second, such as [0, 4095]"
"""What a sample range must be."""


def is_range(value: object) -> bool:
    """Return whether something is a sample range; see `RANGE_RULE`."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in value):
        return False
    try:
        return math.isfinite(float(value[1]) - float(value[0])) and value[0] < value[1]
    except OverflowError:
        return False
