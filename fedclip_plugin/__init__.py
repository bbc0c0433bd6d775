"""FedCLIP for FedML: a frozen CLIP in every silo, one small adapter trained across them.

Names are handed on lazily, so that ``import fedclip_plugin`` costs nothing and imports neither torch nor fedml.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedclip_edge import __version__

if TYPE_CHECKING:
    from fedclip_plugin.classifier import Classifier
    from fedclip_plugin.federated.build import build
    from fedclip_plugin.federated.managers.runner import FedClipRunner
    from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
    from fedclip_plugin.federated.roles.trainer import FedClipTrainer

_HOMES = {
    "Classifier": "fedclip_plugin.classifier",
    "FedClipAggregator": "fedclip_plugin.federated.roles.aggregator",
    "FedClipRunner": "fedclip_plugin.federated.managers.runner",
    "FedClipTrainer": "fedclip_plugin.federated.roles.trainer",
    "build": "fedclip_plugin.federated.build",
}

__all__ = ["Classifier", "FedClipAggregator", "FedClipRunner", "FedClipTrainer", "__version__", "build"]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
