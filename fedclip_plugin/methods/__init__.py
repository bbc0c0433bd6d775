"""What sits on the frozen features: one file a method, and the table that names them.

Names are handed on lazily, so that the table, which recipes are checked against, comes without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedclip_plugin.methods.base import Adapter, AdapterInputs, HeadGraph
    from fedclip_plugin.methods.create import adapter_class, create_adapter, restore_adapter
    from fedclip_plugin.methods.losses import scores
    from fedclip_plugin.methods.parameters import load_parameters, parameters_of
    from fedclip_plugin.methods.pixel_base import PixelAdapter
    from fedclip_plugin.methods.registry import METHODS, Method
    from fedclip_plugin.methods.zero_shot import ZeroShot

__all__ = [
    "METHODS",
    "Adapter",
    "AdapterInputs",
    "HeadGraph",
    "Method",
    "PixelAdapter",
    "ZeroShot",
    "adapter_class",
    "create_adapter",
    "load_parameters",
    "parameters_of",
    "restore_adapter",
    "scores",
]

_HOMES = {
    "base": ("Adapter", "AdapterInputs", "HeadGraph"),
    "create": ("adapter_class", "create_adapter", "restore_adapter"),
    "losses": ("scores",),
    "parameters": ("load_parameters", "parameters_of"),
    "pixel_base": ("PixelAdapter",),
    "registry": ("METHODS", "Method"),
    "zero_shot": ("ZeroShot",),
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
