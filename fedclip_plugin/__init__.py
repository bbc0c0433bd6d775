"""FedCLIP for FedML: a frozen CLIP in every silo, one small adapter trained across them.

Names are handed on lazily, so that ``import fedclip_plugin`` costs nothing and imports neither torch nor fedml.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedclip_edge import __version__

if TYPE_CHECKING:
    from fedclip_plugin.classifier import Classifier
    from fedclip_plugin.errors import FedClipError
    from fedclip_plugin.federated.build import build
    from fedclip_plugin.federated.managers.runner import FedClipRunner
    from fedclip_plugin.federated.roles.aggregator import FedClipAggregator
    from fedclip_plugin.federated.roles.trainer import FedClipTrainer
    from fedclip_plugin.fitting import Result, fit
    from fedclip_plugin.predictions import Evaluation, Prediction
    from fedclip_plugin.recipe import Recipe, load_recipe

_HOMES = {
    "Classifier": "fedclip_plugin.classifier",
    "Evaluation": "fedclip_plugin.predictions",
    "FedClipAggregator": "fedclip_plugin.federated.roles.aggregator",
    "FedClipError": "fedclip_plugin.errors",
    "FedClipRunner": "fedclip_plugin.federated.managers.runner",
    "FedClipTrainer": "fedclip_plugin.federated.roles.trainer",
    "Prediction": "fedclip_plugin.predictions",
    "Recipe": "fedclip_plugin.recipe",
    "Result": "fedclip_plugin.fitting",
    "build": "fedclip_plugin.federated.build",
    "fit": "fedclip_plugin.fitting",
    "load_recipe": "fedclip_plugin.recipe",
}

__all__ = [
    "Classifier",
    "Evaluation",
    "FedClipAggregator",
    "FedClipError",
    "FedClipRunner",
    "FedClipTrainer",
    "Prediction",
    "Recipe",
    "Result",
    "__version__",
    "build",
    "fit",
    "load_recipe",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
