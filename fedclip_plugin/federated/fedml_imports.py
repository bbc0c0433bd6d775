"""FedML without the parts of it that no federation over MPI uses, and torch as it is.

Those parts take two thirds of the time of ``import fedml``. Of torch, the kernels for tensors that hold no values
(``torch._meta_registrations``) could be left out too, for a tenth of a start; but then ``torch.func``,
``torch.compile`` and ``torch.optim`` cannot be imported later, since they and those kernels import each other in a
circle.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

from fedclip_plugin.errors import FedClipError

_ANALYSIS, _DEFENCE = "an analysis that FedML cannot run; imports scipy", "a defence that no recipe has; imports scipy"

UNUSED = {
    "fedml.api": "the commands of FedML's cloud; imports fastapi and sqlalchemy",
    "fedml.data.data_loader": "FedML's own data sets; imports torchvision and with it torch._dynamo",
    "fedml.model.model_hub": "FedML's own models; imports torchvision too",
    "fedml.core.security.attack.dlg_attack": "an attack for experiments; imports torchvision and with it torch._dynamo",
    "fedml.core.security.defense.cross_round_defense": _DEFENCE,
    "fedml.core.security.defense.three_sigma_defense": _DEFENCE,
    "fedml.core.security.defense.three_sigma_defense_foolsgold": _DEFENCE,
    "fedml.core.security.defense.three_sigma_geomedian_defense": _DEFENCE,
    "fedml.core.dp.budget_accountant.rdp_accountant": _ANALYSIS,
    "fedml.core.contribution.mr_shapley_value": _ANALYSIS,
    "fedml.core.mlops.system_stats": "statistics of a machine for FedML's cloud; imports wandb",
    "fedml.core.mlops.mlops_device_perfs": "reports of a machine to FedML's cloud; imports pandas and redis",
    "fedml.core.distributed.communication.s3.remote_storage": "messages by way of S3; imports boto3",
    "fedml.core.distributed.communication.mqtt.mqtt_manager": "messages by way of a broker; imports paho.mqtt",
    "fedml.computing.scheduler.master.master_protocol_manager": "jobs that FedML's cloud starts; imports sqlalchemy",
    "fedml.computing.scheduler.model_scheduler.device_client_constants": "models in FedML's cloud; imports docker",
    "fedml.computing.scheduler.comm_utils.container_utils": "containers of FedML's cloud; imports docker",
    "fedml.computing.scheduler.comm_utils.sys_utils": "FedML's agent on a machine; imports pkg_resources",
    "fedml.computing.scheduler.env.collect_env": "FedML's report of a machine; imports docker and setuptools",
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
