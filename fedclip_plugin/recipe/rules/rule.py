"""What a rule between keys is: it looks only at values valid by themselves, so that all faults are told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fedclip_plugin.recipe.faults import Fault

Values = Mapping[str, Any]
"""``section.key`` to its value, for every key that is valid by itself; absent sections have none."""

Rule = Callable[[Values], Iterator[Fault]]
