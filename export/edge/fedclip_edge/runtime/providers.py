"""Which execution providers onnxruntime lists, which of them can really load here, and why the others cannot."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Final

from fedclip_edge.errors import MissingPackageError, ProviderError

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
CHOICES: tuple[str, ...] = ("auto", "cpu", "cuda")
"""What a caller may ask for; ``auto`` is CUDA where it loads, else the CPU."""

_INSTALL_CUDA = "pip install 'fedclip-edge[cuda]'"
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_OF_NVIDIA = (CUDA, "TensorrtExecutionProvider")
# An ONNX model of one Identity: the smallest that a session can be made of.
_SMALLEST_MODEL = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x12"
)


@dataclass(frozen=True)
class ProviderState:
    """One execution provider that onnxruntime lists, and why it cannot be used here; empty when it can."""

    name: str
    reason: str

    @property
    def usable(self) -> bool:
        """Whether nothing speaks against a session on it."""
        return not self.reason


def onnxruntime() -> ModuleType:
    """Return the onnxruntime module.

    Raises MissingPackageError when it is not installed, or its folder is broken, as after removing one of two
    distributions that shared it.
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

    On Linux NVIDIA's are tried, and onnxruntime says on stderr why one cannot load; elsewhere its list is believed.
    """
    module = onnxruntime()
    return [ProviderState(name, _why_not(module, name)) for name in module.get_available_providers()]


def choose(provider: str) -> tuple[list[str], str]:
    """Return what to hand to InferenceSession for one of `CHOICES`, and a note for the user.

    The names stand in order of preference. The note says why CUDA cannot load, when ``auto`` passes over a GPU. Raises
    ProviderError for an unknown name, or when CUDA was asked for and cannot be used.
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
            "then pip install 'fedclip-edge[cpu]' or 'fedclip-edge[gpu]', never both"
        )
    return f"onnxruntime is not installed: pip install 'fedclip-edge[cpu]', or {_INSTALL_CUDA} for NVIDIA GPUs"


def _why_not(module: ModuleType, name: str) -> str:
    """Return why a provider cannot be used; empty when nothing speaks against it."""
    if name not in _OF_NVIDIA or sys.platform != "linux":
        return ""
    if missing := _no_device():
        return missing
    if hasattr(module, "preload_dlls"):  # from 1.21 on; loads NVIDIA's libraries from their wheels
        with contextlib.redirect_stdout(sys.stderr):
            module.preload_dlls()
    version = getattr(module, "cuda_version", "")  # absent from older ones
    refused = f"onnxruntime {module.__version__}{f', built for CUDA {version},' if version else ''} cannot load it"
    try:
        session = module.InferenceSession(_SMALLEST_MODEL, providers=[name], enable_fallback=0)
    except Exception as error:  # onnxruntime's errors share no base but Exception
        return f"{refused}: {error}"
    if session.get_providers()[0] != name:
        return f"{refused}, and says why on stderr"
    return ""


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
