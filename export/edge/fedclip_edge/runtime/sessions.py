"""The three onnxruntime sessions of a bundle, set up for a device that has other things to do as well."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedclip_edge.errors import BundleError, ExportError, ProviderError
from fedclip_edge.machine import cores
from fedclip_edge.runtime.providers import CPU, CUDA, choose, onnxruntime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_ERRORS_ONLY = 3
_CUDA_OPTIONS = {"use_tf32": "0"}  # 10 bits of mantissa would move fp32 logits beyond the self-test's tolerance


MAX_THREADS: int = 256
"""More threads would only make onnxruntime ask the system for what no machine of this kind has."""


@dataclass(frozen=True)
class SessionMaker:
    """Makes sessions that share one choice of provider and threads.

    Attributes
    ----------
    providers
        onnxruntime's names for the encoder, most wanted first.
    note
        What the user should know about that choice; empty when there is nothing.
    threads
        Threads within an operator.
    spinning
        Whether idle threads burn their core while they wait: 3 to 5 % faster, 40 % more CPU time.
    """

    providers: tuple[str, ...]
    note: str
    threads: int
    spinning: bool

    @classmethod
    def choose(cls, provider: str, threads: int | None, spinning: bool) -> SessionMaker:
        """Return a maker for what the user asked for.

        Parameters
        ----------
        provider
            ``auto``, ``cpu`` or ``cuda``.
        threads
            1 to `MAX_THREADS`; None takes the cores that this process may use.
        spinning
            As the attribute.

        Raises
        ------
        ProviderError
            The provider cannot be used.
        MissingPackageError
            onnxruntime is missing.
        ExportError
            `threads` is out of range.
        """
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise ExportError(f"threads = {threads}: give 1 to {MAX_THREADS}, or none to use all cores of this process")
        providers, note = choose(provider)
        return cls(tuple(providers), note, threads or min(cores(), MAX_THREADS), spinning)

    def encoder(self, model: Path | bytes) -> InferenceSession:
        """Return the encoder's session; one opened by path maps external data and does not copy it.

        Raises
        ------
        BundleError
            ``graph``: onnxruntime cannot load it.
        ProviderError
            onnxruntime cannot run it on the provider that was chosen, or fell back from it.
        """
        session = self._make(model if isinstance(model, bytes) else str(model), "encoder", self.providers, self.threads)
        got = session.get_providers()[0]
        if got != self.providers[0]:  # onnxruntime falls back without an error
            raise ProviderError(
                f"onnxruntime made the encoder on {got}, not on {self.providers[0]}: use --provider cpu"
            )
        return session

    def preprocess(self, raw: bytes) -> InferenceSession:
        """Return the preprocessing session, on the CPU, where its pixels are the same on every machine.

        Raises
        ------
        BundleError
            ``graph``: onnxruntime cannot load it.
        """
        return self._make(raw, "preprocess", (CPU,), self.threads)

    def head(self, raw: bytes) -> InferenceSession:
        """Return a head's session from the very bytes that were verified: one thread is fastest for 2 MB.

        Raises
        ------
        BundleError
            ``graph``: onnxruntime cannot load it.
        """
        return self._make(raw, "head", (CPU,), 1)

    def _make(self, model: str | bytes, role: str, providers: tuple[str, ...], threads: int) -> InferenceSession:
        module = onnxruntime()
        options = module.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spinning)))
        wanted = [(name, _CUDA_OPTIONS) if name == CUDA else name for name in providers]
        try:
            return module.InferenceSession(model, options, providers=wanted, enable_fallback=0)
        except Exception as error:  # onnxruntime's errors share no base but Exception
            if providers[0] != CPU:
                raise ProviderError(
                    f"onnxruntime {module.__version__} cannot run the {role} on {providers[0]}: {error}; "
                    "use --provider cpu"
                ) from error
            raise BundleError(
                "graph",
                f"onnxruntime {module.__version__} cannot load the {role} ({error}); use another, or export anew",
            ) from error
