"""Which tensors a receiver expects: names, types and shapes, compared before there is memory for a single number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import nsmallest
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from fedclip_plugin.federated.messages.packing.tensor_memory import TensorSpec, spec_of
from fedclip_plugin.text import told

_NAMED = 3
"""How many names a sentence tells; a message may have a thousand."""

Size = int | range
"""How long a dimension must be, or between which lengths."""


@dataclass(frozen=True)
class TensorRule:
    """What one tensor must be like."""

    dtype: str
    shape: tuple[Size, ...]
    optional: bool = False

    def allows(self, spec: TensorSpec) -> bool:
        """Return whether a declared tensor is like that."""
        return (
            spec.dtype == self.dtype
            and len(spec.shape) == len(self.shape)
            and all(
                size in own if isinstance(own, range) else size == own
                for size, own in zip(spec.shape, self.shape, strict=True)
            )
        )

    def most_bytes(self) -> int:
        """Return how many bytes such a tensor has at most."""
        longest = tuple(own.stop - 1 if isinstance(own, range) else own for own in self.shape)
        return TensorSpec("", self.dtype, longest).nbytes

    def look(self) -> str:
        """Return type and shape as words."""
        sizes = (f"{own.start}..{own.stop - 1}" if isinstance(own, range) else str(own) for own in self.shape)
        return f"{self.dtype} [{', '.join(sizes)}]"


@dataclass(frozen=True)
class TensorLayout:
    """The tensors of a message.

    Attributes
    ----------
    rules
        By name. In a name ``*`` stands for one key or place, however many there are; such tensors may be missing.
    prefix
        How the names begin in the message, where they are told without it.
    """

    rules: Mapping[str, TensorRule] = field(default_factory=dict)
    prefix: str = ""

    @classmethod
    def like(cls, tensors: Mapping[str, Tensor | NDArray[Any]], prefix: str = "") -> TensorLayout:
        """Return the layout of tensors with these names, types and shapes."""
        specs = {name: spec_of(name, tensor) for name, tensor in tensors.items()}
        return cls({name: TensorRule(spec.dtype, spec.shape) for name, spec in specs.items()}, prefix)

    def fault(self, specs: Sequence[TensorSpec]) -> str | None:
        """Return what is wrong with declared tensors; None when they are those expected."""
        found = {spec.name.removeprefix(self.prefix): spec for spec in specs if spec.name.startswith(self.prefix)}
        unknown = [spec.name for spec in specs if not spec.name.startswith(self.prefix)]
        rules = {name: self._rule(name) for name in found}
        unknown += [name for name, rule in rules.items() if rule is None]
        missing = [name for name in self._required if name not in found]
        if missing or unknown:
            return f"tensors missing: {_names(missing)}; unknown: {_names(unknown)}"
        for name, rule in rules.items():
            if rule is not None and not rule.allows(found[name]):
                return f"{told(name)} is {found[name].look()}, expected {rule.look()}"
        return None

    def most_bytes(self) -> int:
        """Return how many bytes such tensors have at most, each of them there once."""
        return sum(rule.most_bytes() for rule in self.rules.values())

    def strangeness(self, specs: Sequence[TensorSpec]) -> int:
        """Return how many names are missing or unknown: of several layouts the one that is meant has the fewest."""
        names = {spec.name.removeprefix(self.prefix) for spec in specs}
        missing = len(self._required - names)
        return missing + sum(self._rule(name) is None for name in names)

    @cached_property
    def _required(self) -> frozenset[str]:
        return frozenset(name for name, rule in self.rules.items() if "*" not in name and not rule.optional)

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], TensorRule]]:
        patterns = ((name.split("*"), rule) for name, rule in self.rules.items() if "*" in name)
        return [(re.compile("[^.]+".join(map(re.escape, parts))), rule) for parts, rule in patterns]

    def _rule(self, name: str) -> TensorRule | None:
        exact = self.rules.get(name)
        return exact or next((rule for pattern, rule in self._patterns if pattern.fullmatch(name)), None)


NO_TENSORS = (TensorLayout(),)


def layout_fault(layouts: Sequence[TensorLayout], specs: Sequence[TensorSpec]) -> str | None:
    """Return what is wrong with declared tensors by the layout that they come closest to; None when they are one."""
    meant = min(layouts, key=lambda layout: layout.strangeness(specs))
    fault = meant.fault(specs)
    if fault is None or any(layout.fault(specs) is None for layout in layouts):
        return None
    return fault


def _names(names: Iterable[str]) -> str:
    """Return some names, cut and escaped, and how many more there are."""
    found = [*names]
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    return (", ".join(map(told, nsmallest(_NAMED, found))) or "none") + more
