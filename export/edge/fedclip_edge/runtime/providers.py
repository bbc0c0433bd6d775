"""Which execution providers onnxruntime lists, which of them can really load here, and why the others cannot."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Final

from fedclip_edge.errors import MissingPackageError, ProviderError
from fedclip_edge.runtime.cuda_libraries import missing_libraries

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
CHOICES: tuple[str, ...] = ("auto", "cpu", "cuda")
"""What a caller may ask for; ``auto`` is CUDA where it loads, else the CPU."""

_INSTALL_CUDA = "pip install 'fedclip-export[cuda]'"
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_LIBRARIES = {
    CUDA: "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}


@dataclass(frozen=True)
class ProviderState:
    """One execution provider that onnxruntime lists.

    Attributes
    ----------
    name
        onnxruntime's name.
    reason
        Why it cannot be used here; empty when it can.
    """

    name: str
    reason: str

    @property
    def usable(self) -> bool:
        """Whether nothing speaks against a session on it."""
        return not self.reason


def onnxruntime() -> ModuleType:
    """Return the onnxruntime module.

    Raises
    ------
    MissingPackageError
        It is not installed, or its folder is broken, as after removing one of two distributions that shared it.
    """
    try:
        module = importlib.import_module("onnxruntime")
    except Exception as error:  # a broken installation raises more than ImportError
        raise MissingPackageError(_missing(str(error))) from error
    if not hasattr(module, "InferenceSession"):
        raise MissingPackageError(_missing("its folder holds no InferenceSession"))
    return module


def clash() -> str:
    """Return what is wrong when two distributions of onnxruntime are installed over each other, else nothing."""
    found = installed_distributions()
    if len(found) < 2:
        return ""
    return (
        f"{' and '.join(found)} are both installed and share one folder: "
        f"pip uninstall {' '.join(found)}, then install one of them"
    )


def installed_distributions() -> list[str]:
    """Return the names of the distributions of onnxruntime that are installed."""
    found = []
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version(name)
            found.append(name)
    return found


def examine() -> list[ProviderState]:
    """Return every provider that onnxruntime lists, and whether it can load here.

    On Linux the libraries that a provider is linked to are looked for; elsewhere onnxruntime's list is believed.

    Raises
    ------
    MissingPackageError
        As `onnxruntime`.
    """
    module = onnxruntime()
    return [ProviderState(name, _why_not(module, name)) for name in module.get_available_providers()]


def choose(provider: str) -> tuple[list[str], str]:
    """Return what to hand to InferenceSession, and a note for the user.

    Parameters
    ----------
    provider
        One of `CHOICES`.

    Returns
    -------
    tuple
        Names in order of preference; and, when ``auto`` passes over a GPU because CUDA cannot load, why.

    Raises
    ------
    ProviderError
        An unknown name, or CUDA was asked for and cannot be used.
    MissingPackageError
        As `onnxruntime`.
    """
    if provider not in CHOICES:
        raise ProviderError(f"provider {provider!r} is not one of {', '.join(CHOICES)}")
    module = onnxruntime()
    if provider == "cpu":
        return [CPU], ""
    listed = CUDA in module.get_available_providers()
    reason = _why_not(module, CUDA) if listed else "this onnxruntime is built without it"
    if not reason:
        return [CUDA, CPU], ""
    if provider == "cuda":
        raise ProviderError(f"CUDA was asked for and cannot be used: {reason}. Try {_INSTALL_CUDA}, or --provider cpu")
    wasted = listed and not _no_device()
    return [CPU], f"there is a GPU, but CUDA cannot load ({reason}): running on the CPU" if wasted else ""


def _missing(detail: str) -> str:
    found = installed_distributions()
    if found:
        return (
            f"{' and '.join(found)} is installed but broken ({detail}): pip uninstall {' '.join(_DISTRIBUTIONS)}, "
            "then pip install 'fedclip-export[cpu]' or 'fedclip-export[gpu]', never both"
        )
    return f"onnxruntime is not installed: pip install 'fedclip-export[cpu]', or {_INSTALL_CUDA} for NVIDIA GPUs"


def _why_not(module: ModuleType, name: str) -> str:
    """Return why a provider cannot be used; empty when nothing speaks against it."""
    if name not in _LIBRARIES or sys.platform != "linux":
        return ""
    _preload(module)
    library = Path(str(module.__file__)).parent / "capi" / _LIBRARIES[name]
    try:
        missing = missing_libraries(library)
    except (OSError, ValueError) as error:
        return str(error)
    faults = [f"{', '.join(missing)} not found", _built_for(module)] if missing else []
    return "; ".join(fault for fault in (_no_device(), *faults) if fault)


def _built_for(module: ModuleType) -> str:
    version = getattr(module, "cuda_version", "")  # absent from older ones
    return f"onnxruntime {module.__version__} is built for CUDA {version}" if version else ""


def _preload(module: ModuleType) -> None:
    """Load NVIDIA's libraries from their wheels, where onnxruntime can; what it prints is said better by `_why_not`."""
    if hasattr(module, "preload_dlls"):  # from 1.21 on
        with contextlib.redirect_stdout(io.StringIO()):
            module.preload_dlls()


def _no_device() -> str:
    """Ask the NVIDIA driver for a device: onnxruntime would only find out when a session is made."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1 not found)"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return f"the NVIDIA driver finds no device (code {status})"
    return ""
