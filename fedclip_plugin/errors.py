"""The typed errors of the project; every message says what was given, the rule, and how to fix it."""

from __future__ import annotations

from fedclip_edge.errors import FedClipError as FedClipError


class RecipeError(FedClipError):
    """A recipe that is missing, malformed, or breaks a rule; lists every fault at once."""


class MethodError(FedClipError):
    """A method that another package registers and that cannot be used; names the package."""


class DataError(FedClipError):
    """Images or folders that cannot be used as they are."""


class BackboneError(FedClipError):
    """A backbone that cannot be found, is not a CLIP, or is not the one that is expected."""


class AdapterFileError(FedClipError):
    """An adapter on disk that is truncated, altered, or made for something else."""


class HubError(FedClipError):
    """A hub that does not answer or refuses, or a repository of it that cannot be used."""


class RunFolderError(FedClipError):
    """A run folder that cannot be written, resumed, or read."""


class FolderInUseError(FedClipError):
    """A folder in which another process works."""


class PolicyError(FedClipError):
    """A silo policy that cannot be used or refuses what it is asked, or an egress log that cannot be kept."""


class SiloKeysError(FedClipError):
    """A silo's private key, or its roster of public keys, that is missing, open to others, or not what it must be."""


class FederationError(FedClipError):
    """A federation that had to stop: too few usable updates, a silent silo, a failed rank."""

    exit_code = 1


class MaskingRefusedError(FederationError):
    """A silo that does not mask its update, as what it was told of the others is not right, or was another before."""

    exit_code = 2


class MemoryShortageError(FedClipError):
    """A federation that does not fit into a host's memory, in bytes; known before anything is loaded."""

    def __init__(self, text: str, needed: int, there: int) -> None:
        super().__init__(text)
        self.needed, self.there = needed, there
