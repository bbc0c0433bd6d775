"""FedML without the parts of it that no federation over MPI uses, since importing them takes half of a rank's start."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

from fedclip_plugin.errors import FedClipError

UNUSED = {
    "fedml.api": "the commands of FedML's cloud; imports fastapi and sqlalchemy",
    "fedml.data.data_loader": "FedML's own data sets; imports torchvision and with it torch._dynamo",
    "fedml.model.model_hub": "FedML's own models; imports torchvision too",
    "fedml.core.security.attack.dlg_attack": "an attack for experiments; imports torchvision and with it torch._dynamo",
    "fedml.core.mlops.system_stats": "statistics of a machine for FedML's cloud; imports wandb",
    "fedml.core.mlops.mlops_device_perfs": "reports of a machine to FedML's cloud; imports pandas and redis",
    "fedml.core.distributed.communication.s3.remote_storage": "messages by way of S3; imports boto3",
    "fedml.computing.scheduler.master.master_protocol_manager": "jobs that FedML's cloud starts; imports sqlalchemy",
}
"""Modules of fedml 0.9.6 that a rank does without, what each is for, and what it would load."""


class _Refusing(type):
    """The type of what stands for a class or function of an unused module: it can be named, and not used."""

    home: str  # the unused module; what FedML derives from the class has it too

    def __call__(cls, *values: Any, **named: Any) -> Any:
        """Refuse to be made or called."""
        raise cls._error(cls.__name__)

    def __getattr__(cls, name: str) -> Any:
        """Refuse to be asked for a member."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise cls._error(f"{cls.__name__}.{name}")

    def _error(cls, name: str) -> FedClipError:
        return FedClipError(
            f"fedclip runs FedML without {cls.home} ({UNUSED[cls.home]}), but {name} was asked for; start "
            "the recipe from a main of your own, which imports all of FedML (docs/fedml.md)"
        )


class _UnusedModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Refusing(name, (), {"home": self.__name__})


def import_fedml() -> None:
    """Import FedML without its ``UNUSED`` modules, and without the warnings of its own old imports.

    FedML itself is not changed, and a ``main`` that has imported it before keeps it whole.
    """
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    warnings.filterwarnings("ignore", message=".*doesn't match a supported version")
    if "fedml" in sys.modules:
        return
    sys.modules.update({name: _UnusedModule(name) for name in UNUSED})
    import fedml  # noqa: F401
